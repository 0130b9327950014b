/* SPDX-License-Identifier: MIT */
/*
 * kvmless stat: what a trace says in figures. It knows the events of base/trace.def by their names
 * in the file; everything else in a file is passed over.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/json.h"

enum level { L0, L1, L2, USER, HALT, NLEVELS };
static const char *const level_names[NLEVELS] = {"L0", "L1", "L2", "user space", "halted"};
static const char *const level_help[NLEVELS] = {"the core at work", "guest code of L1",
						"guest code of L2", "the VMM, outside KVM_RUN",
						"in the core, asleep"};

struct slice {
	u32 vm, vcpu;
	u64 start, dur; /* ns */
	u32 group;	/* of an L0 slice: index of its row */
	u8 level;
};

/* Durations of one kind. */
struct row {
	char name[64], from[16], by[16];
	u64 *ns, n, room, total;
};

struct table {
	struct row *rows;
	unsigned n, room;
};

struct track {
	u32 vm, vcpu;
	u64 ns[NLEVELS];
};

struct stat_file {
	struct slice *slices;
	u64 nslices, room;
	struct table exits, nested, events;
	struct track *tracks;
	unsigned ntracks;
	u64 nevents, lost, span; /* ns */
	bool whole, no_memory;
};

/* ---- Gathering ---- */

static void *grow(struct stat_file *s, void *p, u64 n, u64 *room, size_t size)
{
	void *q;

	if (n < *room)
		return p;
	*room = *room ? *room * 2 : 64;
	q = realloc(p, *room * size);
	if (!q) {
		s->no_memory = true;
		*room = n;
		return p;
	}
	return q;
}

static struct row *find_row(struct stat_file *s, struct table *t, const char *name,
			    const char *from, const char *by)
{
	u64 room = t->room;

	for (unsigned i = 0; i < t->n; i++)
		if (!strcmp(t->rows[i].name, name) && !strcmp(t->rows[i].from, from) &&
		    !strcmp(t->rows[i].by, by))
			return &t->rows[i];
	t->rows = grow(s, t->rows, t->n, &room, sizeof(*t->rows));
	t->room = (unsigned)room;
	if (s->no_memory)
		return NULL;
	memset(&t->rows[t->n], 0, sizeof(*t->rows));
	snprintf(t->rows[t->n].name, sizeof(t->rows->name), "%s", name);
	snprintf(t->rows[t->n].from, sizeof(t->rows->from), "%s", from);
	snprintf(t->rows[t->n].by, sizeof(t->rows->by), "%s", by);
	return &t->rows[t->n++];
}

static void add_time(struct stat_file *s, struct row *r, u64 ns)
{
	if (!r)
		return;
	r->ns = grow(s, r->ns, r->n, &r->room, sizeof(*r->ns));
	if (s->no_memory)
		return;
	r->ns[r->n++] = ns;
	r->total += ns;
}

static struct track *find_track(struct stat_file *s, u32 vm, u32 vcpu)
{
	struct track *t;

	for (unsigned i = 0; i < s->ntracks; i++)
		if (s->tracks[i].vm == vm && s->tracks[i].vcpu == vcpu)
			return &s->tracks[i];
	t = realloc(s->tracks, (s->ntracks + 1) * sizeof(*t));
	if (!t) {
		s->no_memory = true;
		return NULL;
	}
	s->tracks = t;
	t += s->ntracks++;
	*t = (struct track){.vm = vm, .vcpu = vcpu};
	return t;
}

struct event {
	char name[64], cat[16], from[16], by[16];
	char phase;
	u32 vm, vcpu;
	u64 start, dur, lost;
	bool end;
};

/* "123.456" microseconds: nanoseconds, exactly. */
static u64 to_ns(const char *text)
{
	char *dot;
	u64 ns = strtoull(text, &dot, 10) * 1000, unit = 100;

	if (*dot == '.')
		for (dot++; *dot >= '0' && *dot <= '9'; dot++, unit /= 10)
			ns += (u64)(*dot - '0') * unit;
	return ns;
}

static bool read_event(struct json *j, struct event *e)
{
	struct json_member m = {0};

	memset(e, 0, sizeof(*e));
	if (!json_object(j))
		return false;
	while (json_member(j, &m)) {
		if (!strcmp(m.key, "name"))
			snprintf(e->name, sizeof(e->name), "%.63s", m.text);
		else if (!strcmp(m.key, "cat"))
			snprintf(e->cat, sizeof(e->cat), "%.15s", m.text);
		else if (!strcmp(m.key, "ph"))
			e->phase = *m.text;
		else if (!strcmp(m.key, "pid"))
			e->vm = (u32)strtoul(m.text, NULL, 10);
		else if (!strcmp(m.key, "tid"))
			e->vcpu = (u32)strtoul(m.text, NULL, 10);
		else if (!strcmp(m.key, "ts"))
			e->start = to_ns(m.text);
		else if (!strcmp(m.key, "dur"))
			e->dur = to_ns(m.text);
		else if (!strcmp(m.key, "args.from"))
			snprintf(e->from, sizeof(e->from), "%.15s", m.text);
		else if (!strcmp(m.key, "args.handled by"))
			snprintf(e->by, sizeof(e->by), "%.15s", m.text);
		else if (!strcmp(m.key, "args.lost"))
			e->lost = strtoull(m.text, NULL, 10);
		else if (!strcmp(m.key, "args.reason") && !strcmp(e->name, "nested exit"))
			snprintf(e->name, sizeof(e->name), "nested exit %.40s", m.text);
		if (j->error)
			return false;
	}
	return !j->error;
}

static void add_slice(struct stat_file *s, const struct event *e)
{
	struct slice sl = {.vm = e->vm, .vcpu = e->vcpu, .start = e->start, .dur = e->dur};

	if (!strcmp(e->cat, "guest"))
		sl.level = strcmp(e->name, "L2") ? L1 : L2;
	else if (!strcmp(e->cat, "user"))
		sl.level = USER;
	else if (!strcmp(e->cat, "halt"))
		sl.level = HALT;
	else if (!strcmp(e->cat, "L0"))
		sl.level = L0;
	else
		return;
	if (sl.level == L0) {
		struct row *r = find_row(s, &s->exits, e->name, e->from, e->by);

		sl.group = r ? (u32)(r - s->exits.rows) : 0;
	} else if (sl.level == USER) {
		add_time(s, find_row(s, &s->events, e->name, "user", ""), e->dur);
	}
	s->slices = grow(s, s->slices, s->nslices, &s->room, sizeof(sl));
	if (!s->no_memory)
		s->slices[s->nslices++] = sl;
}

static int by_track_and_time(const void *a, const void *b)
{
	const struct slice *x = a, *y = b;

	if (x->vm != y->vm)
		return x->vm < y->vm ? -1 : 1;
	if (x->vcpu != y->vcpu)
		return x->vcpu < y->vcpu ? -1 : 1;
	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return x->dur > y->dur ? -1 : x->dur < y->dur;
}

/* What is left of a slice of L0 without the sleep in it. */
static u64 awake(const struct stat_file *s, u64 i)
{
	const struct slice *l0 = &s->slices[i], *sl = l0 + 1;
	u64 ns = l0->dur;

	for (; sl < s->slices + s->nslices && sl->level == HALT && sl->vm == l0->vm &&
	       sl->vcpu == l0->vcpu && sl->start < l0->start + l0->dur;
	     sl++)
		ns -= MIN(ns, sl->dur);
	return ns;
}

/*
 * Time by level, and for each exit of L2 the time until L2 goes on: what a nested exit costs its
 * guest, whoever handles it.
 */
static void add_up(struct stat_file *s)
{
	const struct slice *exit = NULL; /* the L0 slice that followed the last of L2 */
	struct track *t = NULL;
	u64 since = 0;
	bool after_l2 = false;

	qsort(s->slices, s->nslices, sizeof(*s->slices), by_track_and_time);
	for (u64 i = 0; i < s->nslices; i++) {
		const struct slice *sl = &s->slices[i];

		if (!t || t->vm != sl->vm || t->vcpu != sl->vcpu) {
			t = find_track(s, sl->vm, sl->vcpu);
			exit = NULL;
			after_l2 = false;
		}
		if (!t)
			return;
		t->ns[sl->level] += sl->dur;
		if (sl->level == L0)
			add_time(s, &s->exits.rows[sl->group], awake(s, i));
		if (sl->level == HALT)
			t->ns[L0] -= MIN(sl->dur, t->ns[L0]);
		if (sl->level == L0 && after_l2) {
			exit = sl;
			since = sl->start;
		}
		if (sl->level == L2 && exit) {
			const struct row *r = &s->exits.rows[exit->group];

			add_time(s, find_row(s, &s->nested, r->name, "L2", r->by),
				 sl->start - since);
			exit = NULL;
		}
		if (sl->level != HALT)
			after_l2 = sl->level == L2;
		if (sl->start + sl->dur > s->span)
			s->span = sl->start + sl->dur;
	}
}

static int read_file(struct stat_file *s, const char *path)
{
	struct json j;
	struct event e;
	struct stat st;
	void *map;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st)) {
		fprintf(stderr, "kvmless stat: '%s': %s\n", path, strerror(errno));
		return -1;
	}
	map = st.st_size ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
	close(fd);
	if (map == MAP_FAILED) {
		fprintf(stderr, "kvmless stat: '%s': %s\n", path, strerror(errno));
		return -1;
	}
	j = (struct json){map, (const char *)map + st.st_size, NULL};
	if (json_array(&j)) {
		while (read_event(&j, &e)) {
			s->nevents++;
			if (e.phase == 'X')
				add_slice(s, &e);
			else if (!strcmp(e.cat, "trace"))
				s->whole = !strcmp(e.name, "end of trace");
			else if (e.phase == 'i')
				add_time(s, find_row(s, &s->events, e.name, "", ""), 0);
			s->lost += !strcmp(e.name, "end of trace") ? e.lost : 0;
		}
	}
	if (j.error)
		fprintf(stderr, "kvmless stat: '%s' is not a trace: %s at byte %zu\n", path,
			j.error, (size_t)(j.p - (const char *)map));
	if (map)
		munmap(map, (size_t)st.st_size);
	if (s->no_memory)
		fprintf(stderr, "kvmless stat: no memory\n");
	return j.error || s->no_memory ? -1 : 0;
}

/* ---- Printing ---- */

static int by_ns(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static int by_total(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->total != y->total)
		return x->total > y->total ? -1 : 1;
	return x->n > y->n ? -1 : x->n < y->n;
}

static void sort_table(struct table *t)
{
	for (unsigned i = 0; i < t->n; i++)
		qsort(t->rows[i].ns, t->rows[i].n, sizeof(u64), by_ns);
	if (t->n)
		qsort(t->rows, t->n, sizeof(*t->rows), by_total);
}

/* The smallest value that @percent of all do not exceed. */
static u64 percentile(const struct row *r, unsigned percent)
{
	return r->n ? r->ns[(r->n * percent + 99) / 100 - 1] : 0;
}

static void print_table(const char *title, const char *by, const struct table *t)
{
	if (!t->n)
		return;
	printf("\n%-34s %-5s %-8s %9s %10s %9s %9s %9s\n", title, "from", by, "count", "total ms",
	       "mean us", "p50 us", "p99 us");
	for (unsigned i = 0; i < t->n; i++) {
		const struct row *r = &t->rows[i];

		printf("  %-32s %-5s %-8s %9" PRIu64 " %10.3f %9.3f %9.3f %9.3f\n", r->name,
		       r->from, r->by, r->n, (double)r->total * 1e-6,
		       (double)r->total / (double)r->n * 1e-3, (double)percentile(r, 50) * 1e-3,
		       (double)percentile(r, 99) * 1e-3);
	}
}

static u64 track_total(const struct track *t)
{
	u64 sum = 0;

	for (unsigned l = 0; l < NLEVELS; l++)
		sum += t->ns[l];
	return sum;
}

static void print_text(const struct stat_file *s)
{
	printf("%" PRIu64 " events, %.3f s, %u vCPU%s\n", s->nevents, (double)s->span * 1e-9,
	       s->ntracks, s->ntracks == 1 ? "" : "s");
	if (s->lost)
		printf("%" PRIu64 " events were lost: the figures are of the others\n", s->lost);
	if (!s->whole)
		printf("the trace has no end: the program was killed, or still runs\n");
	printf("\n%-14s", "time in ms");
	for (unsigned i = 0; i < s->ntracks; i++)
		printf("  VM %u vCPU %-6u  ", s->tracks[i].vm, s->tracks[i].vcpu);
	printf("\n");
	for (unsigned l = 0; l < NLEVELS; l++) {
		printf("  %-12s", level_names[l]);
		for (unsigned i = 0; i < s->ntracks; i++) {
			u64 all = track_total(&s->tracks[i]);

			printf(" %11.3f %5.1f%% ", (double)s->tracks[i].ns[l] * 1e-6,
			       all ? 100.0 * (double)s->tracks[i].ns[l] / (double)all : 0.0);
		}
		printf(" %s\n", level_help[l]);
	}
	print_table("exits: time in L0", "handled", &s->exits);
	print_table("exits of L2: time until L2 goes on", "handled", &s->nested);
	if (s->events.n)
		printf("\n%-34s %9s\n", "events; returns to user space", "count");
	for (unsigned i = 0; i < s->events.n; i++)
		printf("  %-32s %9" PRIu64 "\n", s->events.rows[i].name, s->events.rows[i].n);
}

static void json_table(const char *name, const struct table *t)
{
	printf(",\"%s\":[", name);
	for (unsigned i = 0; i < t->n; i++) {
		const struct row *r = &t->rows[i];

		printf("%s{\"name\":", i ? "," : "");
		json_string(stdout, r->name);
		if (*r->from) {
			printf(",\"from\":");
			json_string(stdout, r->from);
		}
		if (*r->by) {
			printf(",\"handled_by\":");
			json_string(stdout, r->by);
		}
		printf(",\"count\":%" PRIu64 ",\"total_ns\":%" PRIu64 ",\"p50_ns\":%" PRIu64
		       ",\"p99_ns\":%" PRIu64 "}",
		       r->n, r->total, percentile(r, 50), percentile(r, 99));
	}
	printf("]");
}

static void print_json(const struct stat_file *s)
{
	static const char *const keys[NLEVELS] = {"l0_ns", "l1_ns", "l2_ns", "user_ns",
						  "halted_ns"};

	printf("{\"events\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"complete\":%s,\"span_ns\":%" PRIu64
	       ",\"vcpus\":[",
	       s->nevents, s->lost, s->whole ? "true" : "false", s->span);
	for (unsigned i = 0; i < s->ntracks; i++) {
		printf("%s{\"vm\":%u,\"vcpu\":%u", i ? "," : "", s->tracks[i].vm,
		       s->tracks[i].vcpu);
		for (unsigned l = 0; l < NLEVELS; l++)
			printf(",\"%s\":%" PRIu64, keys[l], s->tracks[i].ns[l]);
		printf("}");
	}
	printf("]");
	json_table("exits", &s->exits);
	json_table("nested_exits", &s->nested);
	json_table("events_by_name", &s->events);
	printf("}\n");
}

static void free_table(struct table *t)
{
	for (unsigned i = 0; i < t->n; i++)
		free(t->rows[i].ns);
	free(t->rows);
}

static void help(FILE *f)
{
	fprintf(f, "usage: kvmless stat [--json] FILE\n"
		   "Sums up a trace that --trace has written: time of each vCPU in L0, L1 and L2, "
		   "exits "
		   "by\n"
		   "reason with their latencies, who handled the exits of L2, injected events.\n\n"
		   "  --json            for programs; times in nanoseconds\n\n"
		   "Example: kvmless boot --trace boot.json --initrd initrd.img vmlinuz\n"
		   "         kvmless stat boot.json\n"
		   "The file itself opens in https://ui.perfetto.dev and chrome://tracing.\n");
}

int cmd_stat(int argc, char **argv)
{
	struct stat_file s = {0};
	const char *path = NULL;
	bool json = false;
	int r;

	for (int i = 0; i < argc; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			help(stdout);
			return 0;
		}
		if (!strcmp(argv[i], "--json")) {
			json = true;
		} else if (*argv[i] == '-' || path) {
			fprintf(stderr, "kvmless stat: unexpected '%s'; --help has the usage\n",
				argv[i]);
			return 2;
		} else {
			path = argv[i];
		}
	}
	if (!path) {
		help(stderr);
		return 2;
	}
	r = read_file(&s, path);
	if (!r) {
		add_up(&s);
		sort_table(&s.exits);
		sort_table(&s.nested);
		sort_table(&s.events);
		if (json)
			print_json(&s);
		else
			print_text(&s);
	}
	free_table(&s.exits);
	free_table(&s.nested);
	free_table(&s.events);
	free(s.slices);
	free(s.tracks);
	return r ? 1 : 0;
}
