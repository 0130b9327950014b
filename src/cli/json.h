/* SPDX-License-Identifier: MIT */
/* A reader for JSON arrays of flat objects, which may end in the middle. */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include "base/types.h"

struct json {
	const char *p, *end;
	const char *error; /* what was wrong, and where p stands */
};

/* One member of an object. Members of an object within are given as "outer.inner". */
struct json_member {
	char key[64];
	char text[512]; /* the string, or the number as it stands; cut if longer */
	bool string;
};

/* Into the array. False: this is none. */
bool json_array(struct json *j);
/* To the next object of the array. False: there is none that is whole, or j->error. */
bool json_object(struct json *j);
/* The next member of it. False at its end. */
bool json_member(struct json *j, struct json_member *m);

#endif
