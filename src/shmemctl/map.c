/* SPDX-License-Identifier: BSD-3-Clause */
/* map.c - a picture of an arena: its pages, and what its heaps have in them */
/*
 * A cell is one character for as many bytes. A row of cells is up to three
 * lines: the pages, their nodes where there are several, and heaps where
 * there are some. Rows without a page are left out but for the first.
 */
#include "look.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
	"usage: shmemctl map [--rows=N] PATH\n"
	"Shows which pages of an arena are there, small or huge, on which NUMA "
	"node,\n"
	"and what its heaps have where. Takes no memory by looking. PATH can "
	"be\n"
	"/proc/PID/fd/N, for an arena without a name.\n\n"
	"  -n, --rows=N   as many rows at most, 1 to 200; 12 if not said\n"
	"Exit code: 0; 1 it cannot be looked at, is no arena, or is damaged.\n";

#define ROWS 12
#define LABEL 8	    /* columns before a row */
#define WIDEST 1000 /* cells take memory */
#define NODES 64

/* What a slice of a heap is: a size class, or */
enum { TABLE = HEAP_CLASSES, LARGE, FREE, KINDS };

/* Bytes in a cell. */
struct cell {
	uint64_t pages[CTL_UNKNOWN + 1];
	uint64_t heap[KINDS];
	short node; /* -1: none, -2: several */
};
#define NONE (-1)
#define SEVERAL (-2)

struct map {
	const struct ctl_arena *a;
	struct ctl_heaps heaps;
	struct cell *cell;
	uint64_t bytes, ncells;				  /* bytes of a cell */
	unsigned int columns;				  /* cells in a row */
	uint64_t there[CTL_UNKNOWN + 1], node[NODES + 1]; /* last: unknown */
	bool kinds[KINDS], nodes;
	const char *unknown; /* NULL; or what cannot be told */
	bool utf8;
};

/* ----- filling ----- */

/* A part of [@at, @at + @len), and the cell that it is in; *@at moves on. */
static struct cell *part(struct map *m, uint64_t *at, uint64_t end,
			 uint64_t *len)
{
	struct cell *c = &m->cell[*at / m->bytes];
	uint64_t next = (*at / m->bytes + 1) * m->bytes;

	if (next > end)
		next = end;
	*len = next - *at;
	*at = next;
	return c;
}

static void add_pages(const struct ctl_pages *p, void *arg)
{
	struct map *m = arg;
	uint64_t at = p->at, len;
	int node = p->node < 0 || p->node >= NODES ? NODES : p->node;
	bool known = p->kind == CTL_SMALL || p->kind == CTL_HUGE;

	m->there[p->kind] += p->len;
	if (known)
		m->node[node] += p->len;
	while (at < p->at + p->len) {
		struct cell *c = part(m, &at, p->at + p->len, &len);

		c->pages[p->kind] += len;
		if (known)
			c->node = (short)(c->node == NONE || c->node == node
						  ? node
						  : SEVERAL);
	}
}

static void add_run(const struct ctl_heap *h, const struct ctl_run *r,
		    void *arg)
{
	struct map *m = arg;
	uint64_t at = r->off, end = at + r->nslices * HEAP_SLICE, len;
	uint32_t kind = FREE;

	(void)h;
	if (!r->word)
		kind = TABLE;
	else if (ctl_run_is_span(r))
		kind = r->head.kind;
	else if (r->word & HEAP_USED)
		kind = LARGE;
	m->kinds[kind] = true;
	while (at < end) {
		struct cell *c = part(m, &at, end, &len);

		c->heap[kind] += len;
	}
}

/* The smallest cells with which it fits into @rows. */
static void lay_out(struct map *m, uint64_t rows)
{
	unsigned int width = ctl_width(80), n = 8;

	if (width > WIDEST)
		width = WIDEST;
	/* 8, 12, 16, 24, ...: so that rows begin at round numbers. */
	while (LABEL + n + (n & (n - 1) ? n / 3 : n / 2) <= width)
		n += n & (n - 1) ? n / 3 : n / 2;
	m->columns = n;
	m->bytes = m->a->h.c.pagesize;
	if (m->heaps.n && m->bytes > HEAP_SLICE)
		m->bytes = HEAP_SLICE; /* or little of them could be seen */
	while ((m->a->size + m->bytes - 1) / m->bytes > rows * n)
		m->bytes *= 2;
	m->ncells = (m->a->size + m->bytes - 1) / m->bytes;
	m->cell = ctl_alloc(NULL, m->ncells, sizeof(*m->cell));
	memset(m->cell, 0, m->ncells * sizeof(*m->cell));
	for (uint64_t i = 0; i < m->ncells; i++)
		m->cell[i].node = NONE;
}

/* Pages first: to look for heaps reads from disk. But rows of huge pages are
 * laid out by whether there are heaps. */
static void look(struct map *m, uint64_t rows, bool in_use)
{
	size_t i;

	if (m->a->huge)
		ctl_heaps_find(m->a, in_use, &m->heaps);
	lay_out(m, rows);
	m->unknown = ctl_pages_each(m->a, add_pages, m);
	if (!m->a->huge)
		ctl_heaps_find(m->a, in_use, &m->heaps);
	m->nodes = ctl_several_nodes();
	for (i = 0; i < m->heaps.n; i++)
		ctl_heap_walk(&m->heaps.v[i], add_run, m);
}

/* ----- printing ----- */

struct glyph {
	const char *utf8;
	char ascii;
	enum ctl_colour colour;
	const char *meaning;
};
enum { G_FULL, G_MOST, G_HALF, G_SOME, G_HUGE, G_OUT, G_UNKNOWN, G_HOLE };
static const struct glyph glyphs[] = {
	[G_FULL] = { "\u2588", '#', CTL_GREEN, "small pages" },
	[G_MOST] = { "\u2593", '+', CTL_GREEN, "more than half" },
	[G_HALF] = { "\u2592", '-', CTL_GREEN, "up to half" },
	[G_SOME] = { "\u2591", ':', CTL_GREEN, "up to a quarter" },
	[G_HUGE] = { "H", 'H', CTL_CYAN, "huge pages" },
	[G_OUT] = { "~", '~', CTL_YELLOW, "not in memory: swap or disk" },
	[G_UNKNOWN] = { "?", '?', CTL_YELLOW, "there or not" },
	[G_HOLE] = { "\u00b7", '.', CTL_DIM, "hole" },
};

static void put(const struct map *m, const char *utf8, char ascii,
		enum ctl_colour colour, enum ctl_colour *now)
{
	if (colour != *now) {
		fputs(ctl_colour(CTL_PLAIN), stdout);
		fputs(colour == CTL_PLAIN ? "" : ctl_colour(colour), stdout);
		*now = colour;
	}
	if (m->utf8)
		fputs(utf8, stdout);
	else
		putchar(ascii);
}

static uint64_t there(const struct cell *c)
{
	uint64_t n = 0;
	int i;

	for (i = 0; i <= CTL_UNKNOWN; i++)
		n += c->pages[i];
	return n;
}

/* What most of what is there is, and of small pages how many. */
static int glyph_of(const struct map *m, uint64_t i)
{
	static const int of[] = { [CTL_SMALL] = G_FULL,
				  [CTL_HUGE] = G_HUGE,
				  [CTL_OUT] = G_OUT,
				  [CTL_UNKNOWN] = G_UNKNOWN };
	const struct cell *c = &m->cell[i];
	uint64_t room = m->a->size - i * m->bytes, n = there(c);
	int k, best = 0;

	if (room > m->bytes)
		room = m->bytes;
	for (k = 1; k <= CTL_UNKNOWN; k++)
		if (c->pages[k] > c->pages[best])
			best = k;
	if (!n)
		return G_HOLE;
	if (best != CTL_SMALL || n == room)
		return of[best];
	return n > room / 2 ? G_MOST : n > room / 4 ? G_HALF : G_SOME;
}

static void print_pages(const struct map *m, uint64_t first, uint64_t end)
{
	enum ctl_colour now = CTL_PLAIN;
	uint64_t i;

	for (i = first; i < end; i++) {
		const struct glyph *g = &glyphs[glyph_of(m, i)];

		put(m, g->utf8, g->ascii, g->colour, &now);
	}
	printf("%s\n", now == CTL_PLAIN ? "" : ctl_colour(CTL_PLAIN));
}

static void print_nodes(const struct map *m, uint64_t first, uint64_t end)
{
	static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz"
				     "ABCDEFGHIJKLMNOPQRSTUVWXYZ++?";
	uint64_t i;

	printf("%*s", LABEL, "node ");
	for (i = first; i < end; i++) {
		int n = m->cell[i].node;

		putchar(n == NONE      ? ' '
			: n == SEVERAL ? '*'
			: n == NODES   ? '?'
				       : digits[n]);
	}
	putchar('\n');
}

/* A size class is a to z and then A to K. */
static char heap_char(int kind)
{
	static const char signs[KINDS + 2] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKT=. ";

	return signs[kind == NONE ? (int)KINDS : kind];
}

static enum ctl_colour heap_colour(int kind)
{
	static const enum ctl_colour turns[] = { CTL_CYAN, CTL_MAGENTA,
						 CTL_BLUE, CTL_GREEN };

	if (kind < (int)HEAP_CLASSES)
		return turns[kind % 4];
	return kind == TABLE ? CTL_BOLD : kind == LARGE ? CTL_YELLOW : CTL_DIM;
}

/* NONE where there is no heap. */
static int heap_of(const struct cell *c)
{
	int k, best = 0;

	for (k = 1; k < KINDS; k++)
		if (c->heap[k] > c->heap[best])
			best = k;
	return c->heap[best] ? best : NONE;
}

static void print_heap(const struct map *m, uint64_t first, uint64_t end)
{
	enum ctl_colour now = CTL_PLAIN;
	uint64_t i;

	for (i = end; i > first && heap_of(&m->cell[i - 1]) == NONE; i--)
		;
	if (i == first)
		return;
	end = i;
	printf("%*s", LABEL, "heap ");
	for (i = first; i < end; i++) {
		int k = heap_of(&m->cell[i]);
		char text[2] = { heap_char(k), '\0' };

		put(m, text, text[0], k == NONE ? CTL_PLAIN : heap_colour(k),
		    &now);
	}
	printf("%s\n", now == CTL_PLAIN ? "" : ctl_colour(CTL_PLAIN));
}

static bool is_hole(const struct map *m, uint64_t first, uint64_t end)
{
	uint64_t i;

	for (i = first; i < end; i++)
		if (there(&m->cell[i]))
			return false;
	return true;
}

static void print_rows(const struct map *m)
{
	uint64_t first, end, hole = 0;
	char text[CTL_HUMAN];

	for (first = 0; first < m->ncells; first = end) {
		end = first + m->columns;
		if (end > m->ncells)
			end = m->ncells;
		hole = is_hole(m, first, end) ? hole + 1 : 0;
		if (hole > 1 && end < m->ncells) {
			if (hole == 2)
				printf("%*s\n", LABEL, "* ");
			continue;
		}
		printf("%*s ", LABEL - 1, ctl_human(first * m->bytes, text));
		print_pages(m, first, end);
		if (m->nodes)
			print_nodes(m, first, end);
		if (m->heaps.n)
			print_heap(m, first, end);
	}
}

/* ----- legend ----- */

/* Entries, as many to a line as fit. */
struct legend {
	const char *title;
	unsigned int used;
};

static void entry(struct legend *l, const char *sign, enum ctl_colour colour,
		  const char *meaning)
{
	unsigned int need = ctl_columns(sign) + ctl_columns(meaning) + 3;

	if (l->used && l->used + need > ctl_width(80)) {
		putchar('\n');
		l->used = 0;
		l->title = "";
	}
	if (!l->used)
		printf("%-6s", l->title);
	if (!l->used)
		l->used = 6;
	printf("  %s%s%s %s", ctl_colour(colour), sign, ctl_colour(CTL_PLAIN),
	       meaning);
	l->used += need;
}

static void page_legend(const struct map *m)
{
	bool seen[G_HOLE + 1] = { false };
	struct legend l = { "pages", 0 };
	uint64_t i;
	int g;

	for (i = 0; i < m->ncells; i++)
		seen[glyph_of(m, i)] = true;
	for (g = 0; g <= G_HOLE; g++) {
		char ascii[2] = { glyphs[g].ascii, '\0' };

		if (seen[g])
			entry(&l, m->utf8 ? glyphs[g].utf8 : ascii,
			      glyphs[g].colour, glyphs[g].meaning);
	}
	if (l.used)
		putchar('\n');
}

static void heap_legend(const struct map *m)
{
	struct legend l = { "heap", 0 };
	int k;

	for (k = 0; k < KINDS; k++) {
		char sign[2] = { heap_char(k), '\0' }, size[16];

		if (!m->kinds[k])
			continue;
		snprintf(size, sizeof(size), "%u",
			 k < (int)HEAP_CLASSES ? heap_size[k] : 0);
		entry(&l, sign, heap_colour(k),
		      k < (int)HEAP_CLASSES ? size
		      : k == TABLE	    ? "header and tables"
		      : k == LARGE	    ? "large blocks"
					    : "free");
	}
	if (l.used)
		putchar('\n');
}

static void print_summary(const struct map *m)
{
	static const char *const names[] = { [CTL_SMALL] = "small",
					     [CTL_HUGE] = "huge",
					     [CTL_OUT] = "not in memory",
					     [CTL_UNKNOWN] = "unknown" };
	const char *between = "";
	uint64_t holes = m->a->size;
	char text[CTL_HUMAN];
	int i;

	for (i = 0; i <= CTL_UNKNOWN; i++) {
		holes -= m->there[i] < holes ? m->there[i] : holes;
		if (!m->there[i])
			continue;
		printf("%s%s %s", between, ctl_human(m->there[i], text),
		       names[i]);
		between = ", ";
	}
	printf("%s%s holes", between, ctl_human(holes, text));
	for (i = 0, between = "; "; i <= NODES; i++) {
		if (!m->node[i])
			continue;
		if (i == NODES)
			printf("%snode not known", between);
		else
			printf("%snode %d", between, i);
		if (m->nodes)
			printf(" %s", ctl_human(m->node[i], text));
		between = ", ";
	}
	printf("\n");
	if (m->unknown)
		printf("%s\n", m->unknown);
}

static void print(const struct map *m, bool in_use)
{
	char a[CTL_HUMAN], b[CTL_HUMAN], c[CTL_HUMAN];

	printf("%s%s%s at %#" PRIx64 "\n", ctl_colour(CTL_BOLD), m->a->path,
	       ctl_colour(CTL_PLAIN), m->a->h.c.base);
	printf("%s of at most %s, pages of %s: ", ctl_human(m->a->size, a),
	       ctl_human(m->a->h.c.maxsize, b),
	       ctl_human(m->a->h.c.pagesize, c));
	print_summary(m);
	if (in_use)
		printf("It is in use: some of this may have changed.\n");
	if (!m->ncells)
		return;
	printf("\n");
	print_rows(m);
	printf("\n%-6s  one sign is %s, a row %s\n", "", ctl_human(m->bytes, a),
	       ctl_human(m->bytes * m->columns, b));
	page_legend(m);
	if (m->heaps.n)
		heap_legend(m);
}

static const char *first_wrong(const struct map *m)
{
	size_t i;

	for (i = 0; i < m->heaps.n; i++)
		if (m->heaps.v[i].wrong[0] && !m->heaps.v[i].gone)
			return m->heaps.v[i].wrong;
	return NULL;
}

/* ----- the command ----- */

static int map(const char *path, uint64_t rows)
{
	struct ctl_arena a;
	struct ctl_locks l;
	struct map m = { .a = &a, .utf8 = ctl_utf8() };
	int code = CTL_OK;

	if (ctl_look(path, &a, &l))
		return CTL_FAILED;
	look(&m, rows, ctl_locked(&l));
	print(&m, ctl_locked(&l));
	if (first_wrong(&m))
		code = ctl_error(path, "heap: %s", first_wrong(&m));
	ctl_heaps_end(&m.heaps);
	ctl_inspect_end(&a);
	free(m.cell);
	return code;
}

int ctl_map(int argc, char **argv)
{
	static const struct option longs[] = { { "rows", 1, NULL, 'n' },
					       { "help", 0, NULL, 'h' },
					       { 0 } };
	uint64_t rows = ROWS;
	int c;

	while ((c = ctl_option(argc, argv, "hn:", longs, help)) != -1) {
		const char *wrong = ctl_parse_number(optarg, 200, &rows);

		if (!wrong && !rows)
			wrong = "is too small";
		if (c == 'n' && wrong)
			return ctl_usage(argv[0], "%s %s", optarg, wrong);
	}
	return map(ctl_words(argc, argv, 1), rows);
}
