/* SPDX-License-Identifier: MIT */
/* See json.h. */
#include "cli/json.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static char peek(struct json *j)
{
	while (j->p < j->end && isspace((unsigned char)*j->p))
		j->p++;
	return j->p < j->end ? *j->p : 0;
}

static bool take(struct json *j, char c)
{
	if (peek(j) != c)
		return false;
	j->p++;
	return true;
}

static bool bad(struct json *j, const char *what)
{
	if (!j->error)
		j->error = what;
	return false;
}

static void append(char *buf, size_t size, size_t *n, char c)
{
	if (*n + 1 < size)
		buf[(*n)++] = c;
	buf[*n] = 0;
}

/* After the opening quote. */
static bool string_rest(struct json *j, char *buf, size_t size, size_t n)
{
	while (j->p < j->end && *j->p != '"') {
		char c = *j->p++;

		if ((unsigned char)c < 0x20)
			return bad(j, "a control character in a string");
		if (c == '\\') {
			unsigned code;

			if (j->p >= j->end)
				break;
			c = *j->p++;
			if (c == 'u') {
				if (j->end - j->p < 4 || sscanf(j->p, "%4x", &code) != 1)
					return bad(j, "an escape in a string");
				j->p += 4;
				c = code < 0x80 ? (char)code : '?';
			} else if (c == 'n') {
				c = '\n';
			} else if (c == 't') {
				c = '\t';
			}
		}
		append(buf, size, &n, c);
	}
	return j->p < j->end ? (j->p++, true) : bad(j, "the end within a string");
}

/* Passes over a value that nobody asks for. */
static bool skip(struct json *j, unsigned depth)
{
	char c = peek(j), close = c == '[' ? ']' : '}', buf[2];

	if (c == '"') {
		j->p++;
		return string_rest(j, buf, sizeof(buf), 0);
	}
	if (c != '[' && c != '{') {
		while (j->p < j->end && !strchr(",]}", *j->p))
			j->p++;
		return true;
	}
	if (depth > 32)
		return bad(j, "too deep");
	j->p++;
	while (!take(j, close)) {
		if (!skip(j, depth + 1))
			return false;
		if (close == '}' && take(j, ':') && !skip(j, depth + 1))
			return false;
		if (!take(j, ',') && peek(j) != close)
			return bad(j, "no comma");
	}
	return true;
}

bool json_array(struct json *j)
{
	return take(j, '[') || bad(j, "not an array");
}

/* Where the object that begins at @p ends, or NULL: the file was cut in it. */
static const char *object_end(const char *p, const char *end)
{
	unsigned depth = 0;
	bool in_string = false;

	for (; p < end; p++) {
		if (in_string) {
			if (*p == '\\')
				p++;
			else if (*p == '"')
				in_string = false;
		} else if (*p == '"') {
			in_string = true;
		} else if (*p == '{') {
			depth++;
		} else if (*p == '}' && !--depth) {
			return p + 1;
		}
	}
	return NULL;
}

bool json_object(struct json *j)
{
	if (j->error)
		return false;
	take(j, ',');
	if (!peek(j) || *j->p == ']')
		return false;
	if (*j->p != '{')
		return bad(j, "not an object");
	if (!object_end(j->p, j->end))
		return false;
	j->p++;
	return true;
}

bool json_member(struct json *j, struct json_member *m)
{
	size_t prefix;

	take(j, ',');
	for (;;) {
		if (take(j, '}')) {
			if (!*m->key || !strchr(m->key, '.')) {
				*m->key = 0;
				return false;
			}
			*m->key = 0; /* out of the inner object */
			take(j, ',');
			continue;
		}
		prefix = strchr(m->key, '.') ? (size_t)(strchr(m->key, '.') - m->key) + 1 : 0;
		if (!take(j, '"') || !string_rest(j, m->key, sizeof(m->key), prefix) ||
		    !take(j, ':'))
			return bad(j, "not a member");
		if (prefix || peek(j) != '{')
			break;
		j->p++;
		prefix = strlen(m->key);
		append(m->key, sizeof(m->key), &prefix, '.');
	}
	*m->text = 0;
	m->string = peek(j) == '"';
	if (m->string) {
		j->p++;
		return string_rest(j, m->text, sizeof(m->text), 0);
	}
	if (*j->p == '{' || *j->p == '[')
		return skip(j, 0);
	for (size_t n = 0; j->p < j->end && !strchr(",}] \t\r\n", *j->p); j->p++)
		append(m->text, sizeof(m->text), &n, *j->p);
	return true;
}
