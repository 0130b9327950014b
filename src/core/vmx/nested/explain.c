/* SPDX-License-Identifier: MIT */
/* Why an entry or a VMX instruction of L1 was refused: kept for dumps, logged if asked for. */
#include <stdio.h>

#include "base/log.h"
#include "core/vmx/nested/nested.h"

static const char *error_name(u32 error)
{
	switch (error) {
	case VMXERR_ENTRY_INVALID_CONTROL_FIELD: return "invalid control field";
	case VMXERR_ENTRY_INVALID_HOST_STATE_FIELD: return "invalid host-state field";
	case VMXERR_UNSUPPORTED_VMCS_COMPONENT: return "unsupported VMCS component";
	case VMXERR_VMWRITE_READ_ONLY_VMCS_COMPONENT: return "read-only VMCS component";
	case VMXERR_INVALID_OPERAND_TO_INVEPT_INVVPID: return "invalid operand";
	default: return "see 31.4";
	}
}

void nested_explain(struct kvm_vcpu *v, const char *insn, const struct check_failure *f)
{
	struct nested_vmx *n = nested_of(v);
	char text[320], how[64];

	n->failure = *f;
	n->failed = true;
	kvm_stat_inc(v, nested_refused);
	if (!v->kvm->arch->params.kvmless_explain && !base_log_on(LOG_INFO))
		return;
	check_explain(f, text, sizeof(text));
	if (f->insn_error)
		snprintf(how, sizeof(how), "error %u (%s)", f->insn_error,
			 error_name(f->insn_error));
	else if (f->group == CHECK_GUEST)
		snprintf(how, sizeof(how), "exit with qualification %u", f->qualification);
	else
		snprintf(how, sizeof(how), "VMfailInvalid");
	base_log(v->kvm->arch->params.kvmless_explain ? LOG_WARN : LOG_INFO,
		 "L1 vCPU %u: %s failed, %s: %s", v->id, insn, how, text);
}

void nested_explain_because(struct kvm_vcpu *v, const char *insn, u32 error, const char *id,
			    const char *rule, const char *section, u64 value)
{
	struct check_failure f = {.id = id,
				  .rule = rule,
				  .section = section,
				  .group = CHECK_NGROUPS,
				  .field = ~0u,
				  .value = value,
				  .insn_error = error};

	nested_explain(v, insn, &f);
}
