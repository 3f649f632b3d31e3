/* SPDX-License-Identifier: BSD-3-Clause */
/* create.c - make an arena */
#include "ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
	"usage: shmemctl create [OPTION...] PATH [MAXIMUM]\n"
	"Makes an arena that can grow to MAXIMUM (as 64M or 2G; 1G without),\n"
	"and prints its name and address. Sizes are rounded up to pages.\n\n"
	"  -s, --size SIZE      grow it to that size at once\n"
	"  -p, --page SIZE      page size: 4K, or a huge one, as 2M\n"
	"  -H, --huge           huge pages of the default size\n"
	"      --prefer-huge    the same, or small ones where there are none\n"
	"  -a, --address ADDR   where it is mapped, as 0x400000000000\n"
	"  -m, --mode MODE      of the file, in octal; 600 without\n"
	"  -n, --nodes LIST     NUMA nodes that its memory is from, as 0,2-3\n"
	"      --thp            ask for transparent huge pages\n"
	"      --no-populate    grows leave pages to whoever touches them "
	"first\n"
	"  -t, --temp           PATH ends in XXXXXX, which is replaced\n"
	"Exit code: 0; 1 there is no arena.\n";

struct wish {
	tmc_alloc_t alloc;
	uint64_t address, size, maximum;
	bool temp;
};

enum { PREFER = 256, THP, NO_POPULATE };

/* @text as 0,2-3. NULL, or what is wrong. */
static const char *parse_nodes(const char *text, unsigned long *mask)
{
	*mask = 0;
	do {
		char *end;
		unsigned long from, to;

		if (*text < '0' || *text > '9')
			return "is no list of nodes, as 0,2-3 is";
		from = to = strtoul(text, &end, 10);
		if (*end == '-') {
			text = end + 1;
			to = strtoul(text, &end, 10);
			if (end == text)
				return "is no list of nodes, as 0,2-3 is";
		}
		if (from > to || to >= 8 * sizeof(*mask))
			return "has a node that does not exist";
		for (; from <= to; from++)
			*mask |= 1UL << from;
		text = end;
	} while (*text++ == ',');
	return text[-1] ? "is no list of nodes, as 0,2-3 is" : NULL;
}

static const char *parse_page(const char *text, tmc_alloc_t *alloc)
{
	uint64_t bytes;
	const char *wrong = ctl_parse_size(text, &bytes);

	if (!wrong && !tmc_alloc_set_pagesize_exact(alloc, bytes))
		wrong = "is no page size of this machine";
	return wrong;
}

static const char *parse_mode(const char *text, tmc_alloc_t *alloc)
{
	char *end;
	unsigned long mode = strtoul(text, &end, 8);

	if (*text < '0' || *text > '7' || *end || mode > 0777 ||
	    !tmc_alloc_set_mode(alloc, (unsigned int)mode))
		return "is no mode, as 660 is";
	return NULL;
}

/* What is wrong with @value; NULL: nothing. */
static const char *take(struct wish *w, int c, const char *value)
{
	const char *wrong = NULL;
	unsigned long mask;

	switch (c) {
	case 's':
		return ctl_parse_size(value, &w->size);
	case 'p':
		return parse_page(value, &w->alloc);
	case 'H':
		tmc_alloc_set_huge(&w->alloc);
		break;
	case PREFER:
		tmc_alloc_set_huge_preferred(&w->alloc);
		break;
	case 'a':
		wrong = ctl_parse_address(value, &w->address);
		return wrong || w->address ? wrong : "is no place for one";
	case 'm':
		return parse_mode(value, &w->alloc);
	case 'n':
		wrong = parse_nodes(value, &mask);
		if (!wrong)
			tmc_alloc_set_nodes(&w->alloc, mask);
		return wrong;
	case THP:
		tmc_alloc_set_thp(&w->alloc);
		break;
	case NO_POPULATE:
		tmc_alloc_clear_populate(&w->alloc);
		break;
	case 't':
		w->temp = true;
		break;
	}
	return NULL;
}

static int error(const char *path, const struct wish *w)
{
	switch (errno) {
	case EINVAL:
		if (w->temp && (strlen(path) < 6 ||
				strcmp(path + strlen(path) - 6, "XXXXXX")))
			return ctl_error(path, "does not end in XXXXXX");
		if (w->address)
			return ctl_error(path, "the address is no multiple of "
					       "the page size, or the page "
					       "size or node does not exist");
		return ctl_error(path, "no such page size, or NUMA node");
	case ENOMEM:
	case ENOSPC:
		return ctl_create_error(path,
					w->maximum ? w->maximum : 1 << 30);
	case EADDRINUSE:
		return ctl_error(path, "that address range is taken here");
	case ENOENT:
		return ctl_errno(path);
	}
	return ctl_arena_error(path);
}

static int create(char *path, const struct wish *w)
{
	void *addr = (void *)(uintptr_t)w->address;
	tmc_shmem_t *shm =
		w->temp ? tmc_shmem_create_temp(path, &w->alloc, addr,
						w->maximum)
			: tmc_shmem_create(path, &w->alloc, addr, w->maximum);
	char max[CTL_HUMAN], *clean;
	int code = CTL_OK;

	if (!shm)
		return error(path, w);
	if (w->size)
		code = ctl_grow_by(path, shm, w->size, -1);
	clean = ctl_clean(path);
	if (code)
		tmc_shmem_unlink(path);
	else
		printf("%s: at %p, maximum %s\n", clean, tmc_shmem_address(shm),
		       ctl_human(tmc_shmem_maximum_size(shm), max));
	free(clean);
	tmc_shmem_close(shm);
	return code;
}

int ctl_create(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "size", 1, NULL, 's' },
		{ "page", 1, NULL, 'p' },
		{ "huge", 0, NULL, 'H' },
		{ "prefer-huge", 0, NULL, PREFER },
		{ "address", 1, NULL, 'a' },
		{ "mode", 1, NULL, 'm' },
		{ "nodes", 1, NULL, 'n' },
		{ "thp", 0, NULL, THP },
		{ "no-populate", 0, NULL, NO_POPULATE },
		{ "temp", 0, NULL, 't' },
		{ "help", 0, NULL, 'h' },
		{ 0 },
	};
	struct wish w = { .alloc = TMC_ALLOC_INIT };
	const char *wrong, *value = NULL;
	char *path;
	int c;

	while ((c = ctl_option(argc, argv, "s:p:Ha:m:n:th", longs, help)) !=
	       -1) {
		wrong = take(&w, c, optarg);
		if (wrong)
			return ctl_usage("create", "%s %s", optarg, wrong);
	}
	path = ctl_words(argc, argv, argc - optind == 2 ? 2 : 1);
	if (argc - optind == 2) {
		value = argv[optind + 1];
		wrong = ctl_parse_size(value, &w.maximum);
		if (!wrong && !w.maximum)
			wrong = "is no maximum";
		if (wrong)
			return ctl_usage("create", "%s %s", value, wrong);
	}
	return create(path, &w);
}
