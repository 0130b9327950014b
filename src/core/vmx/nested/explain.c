/* SPDX-License-Identifier: MIT */
/* Why an entry or a VMX instruction of L1 was refused: kept for dumps, logged if asked for. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "core/vmx/nested/nested.h"

/* SDM vol. 3C, 31.4. */
static const char *error_name(u32 error)
{
	switch (error) {
	case VMXERR_VMCLEAR_INVALID_ADDRESS: return "VMCLEAR with invalid physical address";
	case VMXERR_VMCLEAR_VMXON_POINTER: return "VMCLEAR with VMXON pointer";
	case VMXERR_VMLAUNCH_NONCLEAR_VMCS: return "VMLAUNCH with non-clear VMCS";
	case VMXERR_VMRESUME_NONLAUNCHED_VMCS: return "VMRESUME with non-launched VMCS";
	case VMXERR_ENTRY_INVALID_CONTROL_FIELD: return "invalid control field";
	case VMXERR_ENTRY_INVALID_HOST_STATE_FIELD: return "invalid host-state field";
	case VMXERR_VMPTRLD_INVALID_ADDRESS: return "VMPTRLD with invalid physical address";
	case VMXERR_VMPTRLD_VMXON_POINTER: return "VMPTRLD with VMXON pointer";
	case VMXERR_VMPTRLD_INCORRECT_VMCS_REVISION_ID: return "VMPTRLD with incorrect revision";
	case VMXERR_UNSUPPORTED_VMCS_COMPONENT: return "unsupported VMCS component";
	case VMXERR_VMWRITE_READ_ONLY_VMCS_COMPONENT: return "read-only VMCS component";
	case VMXERR_VMXON_IN_VMX_ROOT_OPERATION: return "VMXON in VMX root operation";
	case VMXERR_ENTRY_EVENTS_BLOCKED_BY_MOV_SS: return "events blocked by MOV SS";
	case VMXERR_INVALID_OPERAND_TO_INVEPT_INVVPID: return "invalid operand";
	default: return "see 31.4";
	}
}

bool nested_refusal_text(struct kvm_vcpu *v, unsigned i, char *buf, size_t n)
{
	const struct nested_vmx *nested = nested_of(v);
	const struct nested_refusal *r;
	char text[320], how[80];

	if (i >= MIN(nested->nrefusals, NESTED_REFUSALS))
		return false;
	r = &nested->refusal[(nested->nrefusals - 1 - i) % NESTED_REFUSALS];
	check_explain(&r->f, text, sizeof(text));
	if (r->f.insn_error)
		snprintf(how, sizeof(how), "error %u (%s)", r->f.insn_error,
			 error_name(r->f.insn_error));
	else if (r->f.group == CHECK_GUEST)
		snprintf(how, sizeof(how), "exit with bit 31, qualification %u",
			 r->f.qualification);
	else
		snprintf(how, sizeof(how), "VMfailInvalid");
	snprintf(buf, n, "L1 vCPU %u: %s failed, %s: %s", v->id, r->insn, how, text);
	return true;
}

void nested_explain(struct kvm_vcpu *v, const char *insn, const struct check_failure *f)
{
	struct nested_vmx *n = nested_of(v);
	bool asked = v->kvm->arch->params.kvmless_explain;
	char text[512];

	n->refusal[n->nrefusals % NESTED_REFUSALS] = (struct nested_refusal){insn, *f};
	n->nrefusals++;
	kvm_stat_inc(v, nested_refused);
	if (!asked && !base_log_on(LOG_INFO) && !trace_on())
		return;
	nested_refusal_text(v, 0, text, sizeof(text));
	VCPU_TRACE(text, v, TRACE_NESTED_REFUSED, text);
	base_log(asked ? LOG_WARN : LOG_INFO, "%s", text);
}

void nested_explain_vmcs02(struct kvm_vcpu *v)
{
	const struct check_failure *f = sil_last_failure(v->cpu);
	char text[320] = "no check is named";

	kvm_stat_inc(v, nested_vmcs02_refused);
	if (f)
		check_explain(f, text, sizeof(text));
	VCPU_TRACE(text, v, TRACE_ENTRY_FAILED, text);
	base_log(LOG_WARN, "vCPU %u: L2's state is refused: %s", v->id, text);
}

void nested_explain_because(struct kvm_vcpu *v, const char *insn, u32 error, const char *id,
			    const char *rule, const char *section, u64 value)
{
	struct check_failure f = {.id = id,
				  .rule = rule,
				  .section = section,
				  /* The entry had begun: an exit with bit 31 in its reason. */
				  .group = !error && !strcmp(insn, "VM entry") ? CHECK_GUEST
									       : CHECK_NGROUPS,
				  .field = ~0u,
				  .value = value,
				  .insn_error = error};

	nested_explain(v, insn, &f);
}
