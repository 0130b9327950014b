# The front door; meson and ninja do the work. `make help` says what there is.

BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
CC      ?= cc

.PHONY: all deps configure demo check selftests bench guests install clean sanitize format help

all: configure
	@ninja -C $(BUILD)

help:
	@echo "make            build (build/src/cli/kvmless, build/src/vmm/kvmless-vmm, libkvmless.so)"
	@echo "make demo       boot Debian's kernel with 2 processors and say what happened"
	@echo "make check      all tests"
	@echo "make selftests  Linux's KVM selftests through kvmless run"
	@echo "make bench      native : kvmless : QEMU TCG, as a table"
	@echo "make guests     kernel and initramfs under $(BUILD)/guests"
	@echo "make sanitize   unit and API tests and short fuzzing under address and undefined sanitizers"
	@echo "make format     clang-format over the tree"
	@echo "make install    PREFIX=$(PREFIX) DESTDIR=$(DESTDIR)"

deps:
	@tools/install-deps build

configure: deps
	@[ -f $(BUILD)/build.ninja ] || meson setup $(BUILD) --prefix=$(PREFIX) >$(BUILD).log 2>&1 || \
		{ cat $(BUILD).log; exit 1; }
	@rm -f $(BUILD).log

guests: all
	@tools/install-deps guests
	@tools/make-guests $(BUILD)/guests $(BUILD)/src/vmm/kvmless-vmm

demo: guests
	@tools/demo $(BUILD)

check: guests
	@tools/install-deps check
	@tools/check $(BUILD)

selftests: all
	@tools/install-deps selftests
	@tools/selftests --build $(BUILD)
	@tools/selftests --build $(BUILD) --param kvm_intel.ept=0 smaller_maxphyaddr_emulation_test \
		vmx_exception_with_invalid_guest_state set_sregs_test state_test vmx_dirty_log_test
	@tools/selftests --build $(BUILD) hyperv_clock hyperv_cpuid hyperv_tlb_flush
	@tools/selftests --build $(BUILD) --tier perf --skip hardware_disable_test

bench: guests
	@tools/install-deps bench || echo "the table goes without QEMU TCG"
	@bench/run $(BUILD)

sanitize:
	@tools/install-deps check
	@tools/sanitize

install: all
	@meson configure $(BUILD) --prefix=$(PREFIX) >/dev/null && ninja -C $(BUILD) >/dev/null
	@DESTDIR=$(DESTDIR) meson install -C $(BUILD) --no-rebuild

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	rm -rf $(BUILD) build-*
