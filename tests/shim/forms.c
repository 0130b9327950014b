/* SPDX-License-Identifier: MIT */
/*
 * Every form of the C library's calls by which programs find and open /dev/kvm and the modules'
 * parameters, the ones that only old or fortified programs use included: forms TEST.
 */
#include "client.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define KVM	 "/dev/kvm"
#define PARAMS	 "/sys/module/kvm/parameters/"
#define WRITABLE PARAMS "halt_poll_ns"
#define READONLY "/sys/module/kvm_intel/parameters/ept"
#define ABSENT	 "/sys/module/kvm_amd/parameters/npt"

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);
int __xstat(int ver, const char *path, struct stat *st);
int __lxstat(int ver, const char *path, struct stat *st);
int __fxstatat(int ver, int dir, const char *path, struct stat *st, int flags);
int __xstat64(int ver, const char *path, struct stat64 *st);
int __lxstat64(int ver, const char *path, struct stat64 *st);
int __fxstatat64(int ver, int dir, const char *path, struct stat64 *st, int flags);
int eaccess(const char *path, int mode);
ssize_t __read_chk(int fd, void *buf, size_t n, size_t size);
ssize_t __pread_chk(int fd, void *buf, size_t n, off_t offset, size_t size);
ssize_t __pread64_chk(int fd, void *buf, size_t n, off64_t offset, size_t size);

#define XSTAT_VERSION 1 /* _STAT_VER of x86-64 */

/* ---- open ---- */

static int dev; /* a descriptor of /dev */

#define OPEN_FORMS(X)                                  \
	X(open, open(path, flags))                     \
	X(open64, open64(path, flags))                 \
	X(openat, openat(AT_FDCWD, path, flags))       \
	X(openat64, openat64(AT_FDCWD, path, flags))   \
	X(openat_ignores_dir, openat(-1, path, flags)) \
	X(open_2, __open_2(path, flags))               \
	X(open64_2, __open64_2(path, flags))           \
	X(openat_2, __openat_2(AT_FDCWD, path, flags)) \
	X(openat64_2, __openat64_2(AT_FDCWD, path, flags))

#define X(name, call)                                     \
	static int by_##name(const char *path, int flags) \
	{                                                 \
		return call;                              \
	}
OPEN_FORMS(X)
#undef X

static const struct {
	const char *name;
	int (*open)(const char *path, int flags);
} open_forms[] = {
#define X(name, call) {#name, by_##name},
	OPEN_FORMS(X)
#undef X
};

static void is_kvm(int fd, int cloexec)
{
	CHECK(fd >= 0);
	CHECK(ioctl(fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION);
	CHECK(ioctl(fd, KVM_CHECK_EXTENSION, KVMLESS_CAP) == KVMLESS_MAGIC);
	CHECK(fcntl(fd, F_GETFD) == cloexec);
	CHECK(!close(fd));
}

static void test_open(void)
{
	char text[16];
	FILE *f;

	for (unsigned i = 0; i < sizeof(open_forms) / sizeof(open_forms[0]); i++) {
		int (*form)(const char *, int) = open_forms[i].open;
		int fd;

		printf("%s\n", open_forms[i].name);
		is_kvm(form(KVM, O_RDWR), 0);
		is_kvm(form(KVM, O_RDONLY | O_CLOEXEC), FD_CLOEXEC);
		fd = form(READONLY, O_RDONLY);
		CHECK(fd >= 0 && read(fd, text, sizeof(text)) == 2 && !memcmp(text, "Y\n", 2));
		CHECK(!close(fd));
		CHECK(form(READONLY, O_RDWR) < 0 && errno == EACCES);
		CHECK(form(ABSENT, O_RDONLY) < 0 && errno == ENOENT);
		/* What is not ours is as ever. */
		fd = form("/dev/null", O_RDWR);
		CHECK(fd >= 0 && ioctl(fd, KVM_GET_API_VERSION, 0) < 0 && errno == ENOTTY);
		CHECK(!close(fd));
		CHECK(form("/dev/kvm/", O_RDWR) < 0 || errno != EFAULT);
		CHECK(form("/dev/kvmx", O_RDWR) < 0 && errno == ENOENT);
	}
	is_kvm(openat(dev, "kvm", O_RDWR), 0);
	is_kvm(__openat64_2(dev, "kvm", O_RDWR), 0);
	CHECK(!chdir("/dev"));
	is_kvm(open("kvm", O_RDWR), 0);
	f = fopen(KVM, "r+e");
	CHECK(f && ioctl(fileno(f), KVM_CHECK_EXTENSION, KVMLESS_CAP) == KVMLESS_MAGIC);
	CHECK(!fclose(f));
	f = fopen64(KVM, "r");
	CHECK(f && ioctl(fileno(f), KVM_GET_API_VERSION, 0) == KVM_API_VERSION && !fclose(f));
}

/* ---- stat and access ---- */

#define STAT_FORMS(X)                                                                \
	X(stat, stat(path, (struct stat *)st))                                       \
	X(lstat, lstat(path, (struct stat *)st))                                     \
	X(fstatat, fstatat(AT_FDCWD, path, (struct stat *)st, 0))                    \
	X(stat64, stat64(path, st))                                                  \
	X(lstat64, lstat64(path, st))                                                \
	X(fstatat64, fstatat64(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW))             \
	X(xstat, __xstat(XSTAT_VERSION, path, (struct stat *)st))                    \
	X(lxstat, __lxstat(XSTAT_VERSION, path, (struct stat *)st))                  \
	X(fxstatat, __fxstatat(XSTAT_VERSION, AT_FDCWD, path, (struct stat *)st, 0)) \
	X(xstat64, __xstat64(XSTAT_VERSION, path, st))                               \
	X(lxstat64, __lxstat64(XSTAT_VERSION, path, st))                             \
	X(fxstatat64, __fxstatat64(XSTAT_VERSION, AT_FDCWD, path, st, 0))            \
	X(statx, by_statx(path, st))

static int by_statx(const char *path, struct stat64 *st)
{
	struct statx x;
	int r = statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &x);

	if (r)
		return r;
	CHECK((x.stx_mask & (STATX_TYPE | STATX_MODE)) == (STATX_TYPE | STATX_MODE));
	st->st_mode = x.stx_mode;
	st->st_rdev = makedev(x.stx_rdev_major, x.stx_rdev_minor);
	st->st_size = x.stx_size;
	return 0;
}

#define X(name, call)                                                  \
	static int stat_by_##name(const char *path, struct stat64 *st) \
	{                                                              \
		return call;                                           \
	}
STAT_FORMS(X)
#undef X

static const struct {
	const char *name;
	int (*stat)(const char *path, struct stat64 *st);
} stat_forms[] = {
#define X(name, call) {#name, stat_by_##name},
	STAT_FORMS(X)
#undef X
};

static void test_stat(void)
{
	for (unsigned i = 0; i < sizeof(stat_forms) / sizeof(stat_forms[0]); i++) {
		int (*form)(const char *, struct stat64 *) = stat_forms[i].stat;
		struct stat64 st;

		printf("%s\n", stat_forms[i].name);
		CHECK(!form(KVM, &st) && st.st_mode == (S_IFCHR | 0666));
		CHECK(st.st_rdev == makedev(10, 232));
		CHECK(!form(READONLY, &st) && st.st_mode == (S_IFREG | 0444) && st.st_size == 4096);
		CHECK(!form(WRITABLE, &st) && st.st_mode == (S_IFREG | 0644));
		CHECK(!form("/sys/module/kvm_intel", &st) && S_ISDIR(st.st_mode));
		CHECK(form(ABSENT, &st) && errno == ENOENT);
		CHECK(!form("/dev/null", &st) && st.st_rdev == makedev(1, 3));
		CHECK(form("/dev/no-such-file", &st) && errno == ENOENT);
	}
}

static int by_faccessat(const char *path, int mode)
{
	return faccessat(AT_FDCWD, path, mode, 0);
}

static int by_faccessat_effective(const char *path, int mode)
{
	return faccessat(AT_FDCWD, path, mode, AT_EACCESS);
}

static void test_access(void)
{
	static int (*const forms[])(const char *, int) = {access, eaccess, euidaccess, by_faccessat,
							  by_faccessat_effective};

	for (unsigned i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		printf("form %u\n", i);
		CHECK(!forms[i](KVM, F_OK) && !forms[i](KVM, R_OK | W_OK));
		CHECK(forms[i](KVM, X_OK) && errno == EACCES);
		CHECK(!forms[i](READONLY, R_OK));
		CHECK(forms[i](READONLY, W_OK) && errno == EACCES);
		CHECK(!forms[i](WRITABLE, R_OK | W_OK));
		CHECK(forms[i](ABSENT, F_OK) && errno == ENOENT);
		CHECK(!forms[i]("/dev/null", R_OK | W_OK));
		CHECK(forms[i]("/dev/no-such-file", F_OK) && errno == ENOENT);
	}
	CHECK(!faccessat(dev, "kvm", R_OK, 0));
}

/* ---- Parameters ---- */

static void expect_param(const char *text)
{
	size_t n = strlen(text);
	char buf[64];
	FILE *f = fopen64(WRITABLE, "r");
	int fd = open(WRITABLE, O_RDONLY);

	CHECK(f && fgets(buf, sizeof(buf), f) && !strcmp(buf, text) && !fclose(f));
	CHECK(fd >= 0);
	CHECK(pread(fd, buf, sizeof(buf), 0) == (ssize_t)n && !memcmp(buf, text, n));
	CHECK(pread64(fd, buf, sizeof(buf), 1) == (ssize_t)n - 1 && !memcmp(buf, text + 1, n - 1));
	CHECK(__pread_chk(fd, buf, 4, 0, sizeof(buf)) == 4 && !memcmp(buf, text, 4));
	CHECK(__pread64_chk(fd, buf, 4, 0, sizeof(buf)) == 4 && !memcmp(buf, text, 4));
	CHECK(__read_chk(fd, buf, 4, sizeof(buf)) == 4 && !memcmp(buf, text, 4));
	CHECK(!close(fd));
}

static void test_param(void)
{
	static const char *const modes[] = {"w", "we", "a", "r+", "w+"};
	char text[16];
	int fd, other;
	FILE *f;

	/* With and without a newline; what is no number is refused and changes nothing. */
	fd = open(WRITABLE, O_WRONLY | O_TRUNC);
	CHECK(fd >= 0 && write(fd, "12345", 5) == 5 && !close(fd));
	expect_param("12345\n");
	fd = open(WRITABLE, O_RDWR);
	CHECK(fd >= 0 && write(fd, "many\n", 5) < 0 && errno == EINVAL && !close(fd));
	expect_param("12345\n");
	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		f = fopen(WRITABLE, modes[i]);
		CHECK(f && fprintf(f, "%u\n", 20000 + i) == 6 && !fclose(f));
		snprintf(text, sizeof(text), "%u\n", 20000 + i);
		expect_param(text);
	}
	/* As shells redirect: through another descriptor, by stdio's own calls. */
	fd = open(WRITABLE, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	other = dup(STDERR_FILENO);
	CHECK(fd >= 0 && other >= 0 && dup2(fd, other) == other && !close(fd));
	CHECK(dprintf(other, "3333\n") == 5 && !close(other));
	expect_param("3333\n");
	fd = open(WRITABLE, O_WRONLY);
	other = fcntl(fd, F_DUPFD_CLOEXEC, 50);
	CHECK(other >= 50 && !close(fd) && write(other, "4444\n", 5) == 5 && !close(other));
	expect_param("4444\n");
	CHECK(!fopen(READONLY, "w") && errno == EACCES);
	CHECK(!fopen(ABSENT, "r") && errno == ENOENT);
}

int main(int argc, char **argv)
{
	static const struct client_test tests[] = {
		{"open", test_open},
		{"stat", test_stat},
		{"access", test_access},
		{"param", test_param},
	};

	dev = open("/dev", O_RDONLY | O_DIRECTORY);
	CHECK(dev >= 0);
	return client_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
