/* SPDX-License-Identifier: BSD-3-Clause */
/* out.c - what people see: errors, units, colours, and what they write */
#include "ctl.h"

#include <ctype.h>
#include <errno.h>
#include <langinfo.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>
#include <wctype.h>

/* ----- memory and text ----- */

void *ctl_alloc(void *old, size_t n, size_t size)
{
	void *p = reallocarray(old, n ? n : 1, size);

	if (!p) {
		fputs("shmemctl: no memory\n", stderr);
		exit(CTL_FAILED);
	}
	return p;
}

static char *format_list(const char *format, va_list list)
{
	char *text;

	if (vasprintf(&text, format, list) < 0) {
		fputs("shmemctl: no memory\n", stderr);
		exit(CTL_FAILED);
	}
	return text;
}

char *ctl_format(const char *format, ...)
{
	va_list list;
	char *text;

	va_start(list, format);
	text = format_list(format, list);
	va_end(list);
	return text;
}

/*
 * What shows as nothing, or as another order than it is in, though it counts
 * as printable: a name could look like another one.
 */
static bool is_invisible(wchar_t wc)
{
	static const uint32_t ranges[][2] = {
		{ 0xad, 0xad },	      { 0x34f, 0x34f },
		{ 0x61c, 0x61c },     { 0x115f, 0x1160 },
		{ 0x17b4, 0x17b5 },   { 0x180b, 0x180f },
		{ 0x200b, 0x200f },   { 0x2028, 0x202e },
		{ 0x2060, 0x206f },   { 0x3164, 0x3164 },
		{ 0xfe00, 0xfe0f },   { 0xfeff, 0xfeff },
		{ 0xffa0, 0xffa0 },   { 0xfff0, 0xfffb },
		{ 0x1bca0, 0x1bca3 }, { 0x1d173, 0x1d17a },
		{ 0xe0000, 0xe0fff },
	};
	size_t i;

	for (i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		if ((uint32_t)wc >= ranges[i][0] &&
		    (uint32_t)wc <= ranges[i][1])
			return true;
	return false;
}

char *ctl_clean(const char *name)
{
	size_t left = strlen(name);
	char *clean = ctl_alloc(NULL, left + 1, 1), *to = clean;
	mbstate_t state = { 0 };

	while (left) {
		wchar_t wc;
		size_t n = mbrtowc(&wc, name, left, &state);

		if (n == (size_t)-1 || n == (size_t)-2) {
			memset(&state, 0, sizeof(state));
			n = 1;
			*to++ = '?';
		} else if (!iswprint((wint_t)wc) || is_invisible(wc)) {
			*to++ = '?';
		} else {
			memcpy(to, name, n);
			to += n;
		}
		name += n;
		left -= n;
	}
	*to = '\0';
	return clean;
}

unsigned int ctl_columns(const char *text)
{
	size_t left = strlen(text);
	mbstate_t state = { 0 };
	unsigned int columns = 0;

	while (left) {
		wchar_t wc;
		size_t n = mbrtowc(&wc, text, left, &state);
		int w;

		if (n == (size_t)-1 || n == (size_t)-2)
			return columns + (unsigned int)left;
		w = wcwidth(wc);
		columns += w > 0 ? (unsigned int)w : 0;
		text += n;
		left -= n;
	}
	return columns;
}

/* ----- errors ----- */

static void say(const char *subject, const char *hint, const char *format,
		va_list list)
{
	char *what = format_list(format, list), *clean = ctl_clean(what);
	char *of = subject ? ctl_clean(*subject ? subject : "''") : NULL;

	fflush(stdout);
	fprintf(stderr, "shmemctl: %s%s%s%s\n", of ? of : "", of ? ": " : "",
		clean, hint);
	free(of);
	free(clean);
	free(what);
}

int ctl_error(const char *path, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	say(path, "", format, list);
	va_end(list);
	return CTL_FAILED;
}

int ctl_errno(const char *path)
{
	return ctl_error(path, "%s", strerror(errno));
}

int ctl_usage(const char *command, const char *format, ...)
{
	char *hint = ctl_format("; see shmemctl %s%s--help",
				command ? command : "", command ? " " : "");
	va_list list;

	va_start(list, format);
	say(command, hint, format, list);
	va_end(list);
	free(hint);
	return CTL_USAGE;
}

int ctl_option(int argc, char **argv, const char *shorts,
	       const struct option *longs, const char *help)
{
	char *with_colon = ctl_format(":%s", shorts);
	int at = optind, c;
	const char *word;

	opterr = 0;
	c = getopt_long(argc, argv, with_colon, longs, NULL);
	free(with_colon);
	if (c != '?' && c != ':' && c != 'h')
		return c;
	if (c == 'h') {
		fputs(help, stdout);
		exit(ctl_finish(CTL_OK));
	}
	/* Behind a word that was taken whole, or still in one of letters. */
	word = argv[optind > at ? optind - 1 : at];
	exit(ctl_finish(
		ctl_usage(argv[0], "option %s %s", word ? word : "-",
			  c == ':' ? "needs a value" : "is not understood")));
}

char *ctl_words(int argc, char **argv, int n)
{
	if (argc - optind < n)
		exit(ctl_finish(ctl_usage(argv[0], "an argument is missing")));
	if (argc - optind > n)
		exit(ctl_finish(ctl_usage(argv[0], "%s is one too many",
					  argv[optind + n])));
	return argv[optind];
}

int ctl_finish(int code)
{
	int err = 0;

	errno = 0;
	if (ferror(stdout) || fflush(stdout) || fclose(stdout))
		err = errno ? errno : EIO;
	if (!err)
		return code;
	if (err != EPIPE)
		fprintf(stderr, "shmemctl: output: %s\n", strerror(err));
	return code ? code : CTL_FAILED;
}

/* ----- the terminal ----- */

bool ctl_is_terminal(void)
{
	return isatty(STDOUT_FILENO);
}

unsigned int ctl_terminal_width(int fd, unsigned int otherwise)
{
	struct winsize w;

	return !ioctl(fd, TIOCGWINSZ, &w) && w.ws_col ? w.ws_col : otherwise;
}

unsigned int ctl_width(unsigned int otherwise)
{
	const char *text = getenv("COLUMNS");
	uint64_t n;

	if (text && !ctl_parse_number(text, 10000, &n) && n)
		return (unsigned int)n;
	return ctl_terminal_width(STDOUT_FILENO, otherwise);
}

bool ctl_utf8(void)
{
	return !strcmp(nl_langinfo(CODESET), "UTF-8");
}

const char *ctl_colour(enum ctl_colour c)
{
	static const char *const codes[] = {
		[CTL_PLAIN] = "\033[0m",  [CTL_BOLD] = "\033[1m",
		[CTL_DIM] = "\033[2m",	  [CTL_RED] = "\033[31m",
		[CTL_GREEN] = "\033[32m", [CTL_YELLOW] = "\033[33m",
		[CTL_BLUE] = "\033[34m",  [CTL_MAGENTA] = "\033[35m",
		[CTL_CYAN] = "\033[36m",
	};
	static int wanted = -1;

	if (wanted < 0) {
		const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

		wanted = ctl_is_terminal() && !(no && *no) &&
			 !(term && !strcmp(term, "dumb"));
	}
	return wanted ? codes[c] : "";
}

/* ----- numbers ----- */

static const char units[] = "KMGTPE";

const char *ctl_human(uint64_t bytes, char text[CTL_HUMAN])
{
	uint64_t tenths;
	unsigned int u = 0;

	if (bytes < 1024) {
		snprintf(text, CTL_HUMAN, "%u", (unsigned int)bytes);
		return text;
	}
	/* Down to less than 1,024 of the next unit, one decimal if that tells
	 * more; never rounded up, so that 1G is not less than it says. */
	while (u + 1 < sizeof(units) - 1 && bytes >> 10 * (u + 2))
		u++;
	tenths = (bytes >> 10 * u) * 10 / 1024;
	if (tenths % 10 && tenths < 1000)
		snprintf(text, CTL_HUMAN, "%u.%u%c",
			 (unsigned int)(tenths / 10),
			 (unsigned int)(tenths % 10), units[u]);
	else
		snprintf(text, CTL_HUMAN, "%u%c", (unsigned int)(tenths / 10),
			 units[u]);
	return text;
}

#define TOO_LARGE "is too large"

/* @fault: what to say where there is no digit. */
static const char *digits(const char *text, int base, const char *fault,
			  uint64_t *n, char **end)
{
	if (base == 16 ? !isxdigit((unsigned char)*text)
		       : !isdigit((unsigned char)*text))
		return fault;
	errno = 0;
	*n = strtoull(text, end, base);
	return errno ? TOO_LARGE : NULL;
}

const char *ctl_parse_size(const char *text, uint64_t *bytes)
{
	static const char fault[] = "is no size, as 4096, 64K or 2G is";
	const char *wrong, *unit;
	unsigned int shift = 0;
	uint64_t n;
	char *end;

	wrong = digits(text, 10, fault, &n, &end);
	if (wrong)
		return wrong;
	unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
	if (unit) {
		shift = 10 * (unsigned int)(unit - units + 1);
		end++;
		if (!strcmp(end, "iB"))
			end += 2;
	}
	if (!strcmp(end, "B"))
		end++;
	if (*end)
		return fault;
	if (n > UINT64_MAX >> shift)
		return TOO_LARGE;
	*bytes = n << shift;
	return NULL;
}

const char *ctl_parse_address(const char *text, uint64_t *addr)
{
	static const char fault[] = "is no address, as 0x400000000000 is";
	const char *wrong;
	char *end;

	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		text += 2;
	wrong = digits(text, 16, fault, addr, &end);
	return wrong ? wrong : *end ? fault : NULL;
}

const char *ctl_parse_number(const char *text, uint64_t max, uint64_t *n)
{
	static const char fault[] = "is no number";
	const char *wrong;
	char *end;

	wrong = digits(text, 10, fault, n, &end);
	if (!wrong && *end)
		wrong = fault;
	return wrong ? wrong : *n > max ? TOO_LARGE : NULL;
}
