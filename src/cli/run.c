/* SPDX-License-Identifier: MIT */
/* kvmless run: an unmodified program, with our /dev/kvm. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cli/cli.h"
#include "kvmapi/kvmless.h"

#define SHIM_NAME "libkvmless-shim.so"
/* As env(1) and the shells have them. */
#define EXIT_CANNOT_RUN 126
#define EXIT_NOT_FOUND	127
#define MAX_PARAMS	128
#define PATH_LEN	4096

static void help(FILE *f)
{
	fprintf(f,
		"usage: kvmless run [options] [--] PROGRAM [ARGUMENTS]\n"
		"Runs a program of the KVM API, and all it starts, with kvmless's /dev/kvm.\n\n"
		"  --cpuid NAME      virtual (default): CPUID in the program's own code answers as "
		"the\n"
		"                    virtual processor where that matters; native: leave it "
		"alone\n%s"
		"\nExample: kvmless run -- qemu-system-x86_64 -accel kvm -M q35 -nographic ...\n",
		common_options_help);
}

/* ---- The library ---- */

/* Beside us in the build tree, or where it was installed. */
static bool find_shim(char *path)
{
	static const char *const places[] = {"%s/../shim/" SHIM_NAME,
					     "%s/../lib/x86_64-linux-gnu/" SHIM_NAME,
					     "%s/../lib64/" SHIM_NAME, "%s/../lib/" SHIM_NAME};
	char exe[PATH_LEN], try[PATH_LEN + 64];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash;

	if (n <= 0)
		return false;
	exe[n] = 0;
	slash = strrchr(exe, '/');
	*slash = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		snprintf(try, sizeof(try), places[i], exe);
		if (!access(try, R_OK) && realpath(try, path))
			return true;
	}
	return false;
}

/* ---- Programs that a preload does not reach ---- */

/* The file that execvp would take. */
static bool find_program(const char *name, char *path)
{
	const char *dirs = getenv("PATH");
	char *copy, *save = NULL;
	bool found = false;
	struct stat st;

	if (strchr(name, '/')) {
		snprintf(path, PATH_LEN, "%s", name);
		return !stat(path, &st);
	}
	copy = strdup(dirs ? dirs : "/usr/local/bin:/usr/bin:/bin");
	for (char *d = copy ? strtok_r(copy, ":", &save) : NULL; d && !found;
	     d = strtok_r(NULL, ":", &save)) {
		snprintf(path, PATH_LEN, "%s/%s", d, name);
		found = !access(path, X_OK) && !stat(path, &st) && S_ISREG(st.st_mode);
	}
	free(copy);
	return found;
}

/* Why @fd, an ELF file that begins with @h, will not load our library; NULL: it will. */
static const char *elf_problem(int fd, const Elf64_Ehdr *h)
{
	Elf64_Phdr ph;

	if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_machine != EM_X86_64)
		return "is not an x86-64 program";
	for (unsigned i = 0; i < h->e_phnum; i++) {
		if (pread(fd, &ph, sizeof(ph), h->e_phoff + i * sizeof(ph)) != sizeof(ph))
			return "is a damaged ELF file";
		if (ph.p_type == PT_INTERP)
			return NULL;
	}
	return "is statically linked: it makes its system calls itself, and nothing can be put "
	       "in between; use a dynamically linked build";
}

static const char *privilege_problem(int fd)
{
	char caps[64];
	struct stat st;

	if (fstat(fd, &st))
		return NULL;
	if ((st.st_mode & S_ISUID && st.st_uid != geteuid()) ||
	    ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st.st_gid != getegid()))
		return "is set-uid or set-gid: the dynamic loader ignores preloads there; run it "
		       "as "
		       "its owner";
	if (geteuid() && fgetxattr(fd, "security.capability", caps, sizeof(caps)) > 0)
		return "has file capabilities: the dynamic loader ignores preloads there; run a "
		       "copy "
		       "without them";
	return NULL;
}

/* 0, or an exit status after a message. */
static int check_program(const char *name)
{
	union {
		Elf64_Ehdr h;
		char text[256];
	} u;
	const char *problem = NULL;
	char path[PATH_LEN];
	ssize_t n;
	int fd;

	if (!find_program(name, path)) {
		fprintf(stderr, "kvmless run: %s: not found\n", name);
		return EXIT_NOT_FOUND;
	}
	memset(&u, 0, sizeof(u));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0; /* executable but not readable: exec will say */
	n = read(fd, &u, sizeof(u) - 1);
	if (n >= (ssize_t)sizeof(u.h) && !memcmp(u.h.e_ident, ELFMAG, SELFMAG)) {
		problem = elf_problem(fd, &u.h);
		if (!problem)
			problem = privilege_problem(fd);
	}
	close(fd);
	if (n > 2 && u.text[0] == '#' && u.text[1] == '!') {
		char *interpreter = u.text + 2 + strspn(u.text + 2, " \t");

		interpreter[strcspn(interpreter, " \t\n")] = 0;
		if (strncmp(interpreter, "#!", 2))
			return check_program(interpreter);
	}
	if (!problem)
		return 0;
	fprintf(stderr, "kvmless run: %s %s\n", path, problem);
	return EXIT_CANNOT_RUN;
}

/* ---- The environment ---- */

static void param_text(unsigned i, char *buf, size_t n)
{
	ssize_t len = kvmless_param_get(kvmless_param_name(i, NULL, NULL), buf, n);

	buf[len > 0 && len < (ssize_t)n ? len - 1 : 0] = 0;
}

/* What the options have changed, after what the environment said already. */
static int export_params(char before[][64])
{
	const char *outer = getenv("KVMLESS_PARAMS");
	char now[64], *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	int r;

	if (!f)
		return -1;
	if (outer)
		fputs(outer, f);
	for (unsigned i = 0; kvmless_param_name(i, NULL, NULL) && i < MAX_PARAMS; i++) {
		param_text(i, now, sizeof(now));
		if (strcmp(now, before[i]))
			fprintf(f, "%s%s=%s", ftell(f) ? "," : "",
				kvmless_param_name(i, NULL, NULL), now);
	}
	r = fclose(f) || setenv("KVMLESS_PARAMS", text, 1) ? -1 : 0;
	free(text);
	return r;
}

static int export_preload(const char *shim)
{
	const char *outer = getenv("LD_PRELOAD");
	char value[2 * PATH_LEN];

	if (outer && strstr(outer, SHIM_NAME))
		return 0; /* one inside another */
	snprintf(value, sizeof(value), "%s%s%s", shim, outer && *outer ? ":" : "",
		 outer ? outer : "");
	return setenv("LD_PRELOAD", value, 1);
}

static int parse(struct common_options *common, int argc, char **argv)
{
	const char *cpuid = NULL;
	int i, n;

	for (i = 0; i < argc && argv[i][0] == '-'; i += n) {
		if (!strcmp(argv[i], "--"))
			return i + 1;
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			help(stdout);
			exit(0);
		}
		n = 1;
		if (!strncmp(argv[i], "--cpuid", 7) && (!argv[i][7] || argv[i][7] == '=')) {
			n = argv[i][7] ? 1 : 2;
			cpuid = argv[i][7] ? argv[i] + 8 : i + 1 < argc ? argv[i + 1] : "";
			if (strcmp(cpuid, "native") && strcmp(cpuid, "virtual")) {
				fprintf(stderr, "kvmless run: --cpuid is native or virtual\n");
				return -1;
			}
			setenv("KVMLESS_CPUID", cpuid, 1);
			continue;
		}
		n = common_parse(common, argc - i, argv + i);
		if (!n)
			fprintf(stderr, "kvmless run: unknown option %s\n", argv[i]);
		if (n <= 0)
			return -1;
	}
	return i;
}

int cmd_run(int argc, char **argv)
{
	struct common_options common = {0};
	static char before[MAX_PARAMS][64];
	char shim[PATH_LEN];
	int first, r;

	for (unsigned i = 0; kvmless_param_name(i, NULL, NULL) && i < MAX_PARAMS; i++)
		param_text(i, before[i], sizeof(before[i]));
	first = parse(&common, argc, argv);
	if (first < 0)
		return 2;
	if (first >= argc) {
		help(stderr);
		return 2;
	}
	if (!find_shim(shim)) {
		fprintf(stderr, "kvmless run: " SHIM_NAME " is neither beside this program nor "
				"in ../lib: build or install all of kvmless\n");
		return EXIT_CANNOT_RUN;
	}
	r = check_program(argv[first]);
	if (r)
		return r;
	if (common.verbose)
		setenv("KVMLESS_VERBOSE", "1", 1);
	if (common.trace) {
		char path[PATH_LEN];

		/* The program may change its directory. */
		if (common.trace[0] != '/' && getcwd(path, sizeof(path) - 1)) {
			size_t n = strlen(path);

			snprintf(path + n, sizeof(path) - n, "/%s", common.trace);
		} else {
			snprintf(path, sizeof(path), "%s", common.trace);
		}
		trace_prepare(path);
		setenv("KVMLESS_TRACE", path, 1);
	}
	if (export_params(before) || export_preload(shim)) {
		fprintf(stderr, "kvmless run: %s\n", strerror(errno));
		return EXIT_CANNOT_RUN;
	}
	execvp(argv[first], argv + first);
	r = errno;
	fprintf(stderr, "kvmless run: %s: %s\n", argv[first], strerror(r));
	return r == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}
