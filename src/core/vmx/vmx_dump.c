/* SPDX-License-Identifier: MIT */
/* The VMCS as text, from the field table. */
#include "core/dump.h"
#include "core/vmx/nested/nested.h"
#include "spec/check.h"

static const char *const exit_names[] = {
#define EXIT(name, number) [number] = #name,
#include "spec/exit.def"
};

const char *vmx_exit_name(u32 reason)
{
	reason &= 0xffff;
	return reason < ARRAY_SIZE(exit_names) && exit_names[reason] ? exit_names[reason] : "?";
}

int vmx_dump(struct kvm_vcpu *v, char *buf, size_t n)
{
	struct vcpu_vmx *vmx = vmx_of(v);
	const struct check_failure *f = sil_last_failure(v->cpu);
	struct text t = {buf, n, 0};
	char line[640];

	text_add(&t, "last exit: reason %#x (%s)%s\n", vmx->exit_reason,
		 vmx_exit_name(vmx->exit_reason),
		 vmx->exit_reason & VMX_EXIT_REASON_FAILED_VMENTRY ? ", VM entry failed" : "");
	if (f) {
		check_explain(f, line, sizeof(line));
		text_add(&t, "last refused: %s\n", line);
	}
	for (unsigned i = 0; nested_refusal_text(v, i, line, sizeof(line)); i++)
		text_add(&t, "%s\n", line);
		/* Fields that this processor has; zero ones are left out. */
#define VMCS(name, encoding, vmcs12, shadow)                                             \
	do {                                                                             \
		u64 val;                                                                 \
                                                                                         \
		if (sil_vmread(v->cpu, encoding, &val) == SIL_VMX_OK && val)             \
			text_add(&t, "  %-32s %#llx\n", #name, (unsigned long long)val); \
	} while (0);
#include "spec/vmcs.def"
	return t.len;
}
