/* SPDX-License-Identifier: MIT */
/* Why an entry or a VMX instruction of L1 was refused: kept for dumps, logged if asked for. */
#include <stdarg.h>
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
	char text[448], how[80];

	if (i >= MIN(nested->nrefusals, NESTED_REFUSALS))
		return false;
	r = &nested->refusal[(nested->nrefusals - 1 - i) % NESTED_REFUSALS];
	check_explain(&r->f, text, sizeof(text));
	if (r->f.insn_error == NESTED_REFUSED_UD)
		snprintf(how, sizeof(how), "#UD");
	else if (r->f.insn_error)
		snprintf(how, sizeof(how), "error %u (%s)", r->f.insn_error,
			 error_name(r->f.insn_error));
	else if (r->f.group == CHECK_GUEST)
		snprintf(how, sizeof(how), "exit with bit 31, qualification %u",
			 r->f.qualification);
	else
		snprintf(how, sizeof(how), "VMfailInvalid");
	snprintf(buf, n, "L1 vCPU %u: %s failed, %s: %s%s%s", v->id, r->insn, how, text,
		 *r->note ? "; " : "", r->note);
	return true;
}

void nested_note(struct kvm_vcpu *v, const char *fmt, ...)
{
	struct nested_vmx *n = nested_of(v);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(n->note, sizeof(n->note), fmt, ap);
	va_end(ap);
}

void nested_explain(struct kvm_vcpu *v, const char *insn, const struct check_failure *f)
{
	struct nested_vmx *n = nested_of(v);
	bool asked = v->kvm->arch->params.kvmless_explain;
	struct nested_refusal *r = &n->refusal[n->nrefusals % NESTED_REFUSALS];
	char text[640];

	*r = (struct nested_refusal){.insn = insn, .f = *f};
	memcpy(r->note, n->note, sizeof(r->note));
	n->note[0] = 0;
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

/* ---- EPT ---- */

/* What is wrong with an entry of level @level, or NULL. */
static const char *misconfiguration(struct kvm_vcpu *v, u64 e, unsigned level)
{
	u64 cap = nested_of(v)->cap[CAP_EPT_VPID], type = e >> 3 & 7;
	bool leaf = level == 1 || (e & BIT(7) && level < 4);

	if ((e & (EPT_R | EPT_W)) == EPT_W)
		return "writable and not readable";
	if (!(e & EPT_R) && !(cap & VMX_EPT_EXECUTE_ONLY))
		return "execute-only, which IA32_VMX_EPT_VPID_CAP[0] does not offer";
	if (e & BITS(51, 0) & ~(BIT(v->arch->maxphyaddr) - 1))
		return "address bits beyond MAXPHYADDR";
	if (leaf && (type == 2 || type == 3 || type == 7))
		return "a reserved memory type in bits 5:3";
	if (!leaf && e & BITS(7, 3))
		return "bits 7:3 of an entry that is no leaf are not 0";
	if (leaf && level > 1 && e & (BIT(PAGE_SHIFT + 9 * (level - 1)) - 1) & PAGE_MASK)
		return "address bits below the size of the page";
	return NULL;
}

/* Each frame is told of once, or a device would fill the log. */
static bool explained_before(struct nested_vmx *n, gfn_t gfn)
{
	for (unsigned i = 0; i < ARRAY_SIZE(n->explained); i++)
		if (n->explained[i] == gfn + 1)
			return true;
	n->explained[n->nexplained++ % ARRAY_SIZE(n->explained)] = gfn + 1;
	return false;
}

void nested_explain_ept(struct kvm_vcpu *v, gpa_t gpa)
{
	u64 eptp = V12(vmcs12_of(v), EPT_POINTER), table = eptp & EPT_ADDR_MASK, at, e;
	u64 present = EPT_R | EPT_W | EPT_X |
		      (v12_cpu2(vmcs12_of(v), SECONDARY_EXEC_MODE_BASED_EPT_EXEC) ? EPT_XU : 0);
	const char *why;

	if ((!v->kvm->arch->params.kvmless_explain && !base_log_on(LOG_INFO)) ||
	    explained_before(nested_of(v), gpa >> PAGE_SHIFT))
		return;
	for (unsigned level = (unsigned)bits_get(eptp, 5, 3) + 1; level; level--) {
		at = table + (gpa >> (PAGE_SHIFT + 9 * (level - 1)) & 511) * 8;
		if (vcpu_read_guest(v, at, &e, sizeof(e)) || !(e & present))
			return;
		why = misconfiguration(v, e, level);
		if (why) {
			base_log(v->kvm->arch->params.kvmless_explain ? LOG_WARN : LOG_INFO,
				 "L1 vCPU %u: EPT misconfiguration at L2's %#llx: level %u, entry "
				 "%#llx "
				 "at %#llx: %s; SDM vol. 3C, 29.3.3.1",
				 v->id, (unsigned long long)gpa, level, (unsigned long long)e,
				 (unsigned long long)at, why);
			return;
		}
		if (level == 1 || (e & BIT(7)))
			return;
		table = e & EPT_ADDR_MASK;
	}
}
