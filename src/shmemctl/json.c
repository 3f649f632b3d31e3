/* SPDX-License-Identifier: BSD-3-Clause */
/* json.c - values for programs */
#include "ctl.h"

#include <inttypes.h>
#include <string.h>

#define DEPTH 8

static char closing[DEPTH];
static unsigned int depth;
static bool more; /* something stands before in this bracket */

/* Length of the UTF-8 character at @s; 0: it is none. */
static size_t utf8_len(const unsigned char *s)
{
	size_t n = s[0] < 0x80	 ? 1
		   : s[0] < 0xc2 ? 0
		   : s[0] < 0xe0 ? 2
		   : s[0] < 0xf0 ? 3
		   : s[0] < 0xf5 ? 4
				 : 0;
	size_t i;

	for (i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* Too long for what it says, a surrogate, beyond the last one. */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

static void string(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	putchar('"');
	while (*s) {
		size_t n = utf8_len(s);

		if (!n) {
			printf("\\udc%02x", *s++);
		} else if (*s == '"' || *s == '\\') {
			printf("\\%c", *s++);
		} else if (*s < 0x20 || *s == 0x7f) {
			printf("\\u%04x", *s++);
		} else {
			fwrite(s, 1, n, stdout);
			s += n;
		}
	}
	putchar('"');
}

static void begin(const char *key)
{
	if (depth)
		printf("%s\n%*s", more ? "," : "", (int)(2 * depth), "");
	if (key) {
		string(key);
		fputs(": ", stdout);
	}
	more = true;
}

void ctl_json_open(const char *key, char bracket)
{
	begin(key);
	putchar(bracket);
	closing[depth++] = bracket == '{' ? '}' : ']';
	more = false;
}

void ctl_json_close(void)
{
	depth--;
	if (more)
		printf("\n%*s", (int)(2 * depth), "");
	putchar(closing[depth]);
	if (!depth)
		putchar('\n');
	more = true;
}

void ctl_json_text(const char *key, const char *value)
{
	begin(key);
	if (value)
		string(value);
	else
		fputs("null", stdout);
}

void ctl_json_number(const char *key, uint64_t value)
{
	begin(key);
	printf("%" PRIu64, value);
}

void ctl_json_bool(const char *key, bool value)
{
	begin(key);
	fputs(value ? "true" : "false", stdout);
}
