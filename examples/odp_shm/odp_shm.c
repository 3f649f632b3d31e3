/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * odp_shm.c - OpenDataPlane's shared memory calls, on libshmem.
 *
 * libshmem was first proposed for ODP, whose own blocks of shared memory cost a
 * file and a mapping each, and a table under one lock for all processes. Here
 * an instance is an arena: a block is one of a heap in it, so that it costs no
 * system call, has one address everywhere (SINGLE_VA comes by itself), and is
 * there for all processes at once. This uses nothing but <shmem.h> and the C
 * library, and nothing of ODP's: it is written from its published API, and
 * would be called by odp_init_global() and its siblings (odp_shm.h, the end).
 *
 *	odp_shm.c	the calls
 *	directory.c	the table of blocks: why no death can stop anybody
 *	instance.c	files: how instances are made, found, and swept away
 *	demo.c		two programs and two instances
 *
 * What lies where. In front of the first arena, of small pages, is the table.
 * Behind it are two heaps, one for records (names, sizes) and one for blocks,
 * which grow in whatever order. Two further arenas, each with one heap, are
 * made when the first block wants them: one of huge pages; and one for large
 * blocks whose memory comes when it is touched, if the instance is set up for
 * it. Without HP and NO_HP, a block that is no smaller than a huge page gets
 * huge ones if that is possible. Apart from the latter kind, all memory is
 * there when reserve returns, so there is no SIGBUS later.
 *
 * Deaths. A process may be killed anywhere. What it has reserved stays, as it
 * is the instance's, for others to look up and free. Of the call that it was
 * in, the heaps put right what is theirs; the table has no halves. What can be
 * lost is one block, between the heap's call and the table's one instruction.
 *
 * Trust is as libshmem has it: who can write an instance's files can make its
 * processes fail. Handles and arguments, in contrast, may be anything.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CACHE_LINE 64u
#define MOST_ALIGN ((uint64_t)2 << 20) /* if no page is larger */

static uint64_t number(odp_shm_t shm)
{
	return (uint64_t)(uintptr_t)shm;
}

static odp_shm_t handle(uint64_t nr)
{
	return (odp_shm_t)(uintptr_t)nr;
}

static odp_shm_t invalid(int err)
{
	errno = err;
	return ODP_SHM_INVALID;
}

static uint64_t max_align(const struct odp_instance *in)
{
	return in->huge_size > MOST_ALIGN ? in->huge_size : MOST_ALIGN;
}

int odp_shm_capability(odp_shm_capability_t *capa)
{
	struct odp_instance *in = odpi_self();

	if (!in)
		return -1;
	if (!capa) {
		errno = EINVAL;
		return -1;
	}
	capa->max_blocks = in->dir->max_blocks;
	capa->max_size = 0;
	capa->max_align = max_align(in);
	capa->flags = ODP_KNOWN_FLAGS;
	if (!in->huge_size)
		capa->flags &= ~ODP_SHM_HP;
	return 0;
}

/* ----- memory ----- */

/* What the heap keeps in one place may be what is missing in another. */
static void *from_heap(tmc_mspace heap, const union odp_record *r)
{
	void *p = tmc_mspace_memalign(heap, r->align, r->size);

	if (!p && errno == ENOMEM && tmc_mspace_trim(heap, 0) == 1)
		p = tmc_mspace_memalign(heap, r->align, r->size);
	return p;
}

static void *from_further(struct odp_instance *in, const union odp_record *r)
{
	tmc_shmem_t *shm = odpi_further(in, r->where, true);

	return shm ? from_heap(tmc_shmem_get_data(shm), r) : NULL;
}

/* Where huge pages would be nice, but need not be. */
static bool try_huge(struct odp_instance *in, const union odp_record *r)
{
	/* relaxed: a hint, of this process */
	return !(r->flags & ODP_SHM_NO_HP) && in->huge_size &&
	       r->size >= in->huge_size &&
	       !atomic_load_explicit(&in->no_huge, memory_order_relaxed);
}

/* A block's memory, and where it is, in @r. */
static int take_memory(struct odp_instance *in, union odp_record *r)
{
	bool must = r->flags & ODP_SHM_HP;
	void *p = NULL;

	if (must || try_huge(in, r)) {
		r->where = ODP_HUGE;
		p = from_further(in, r);
		if (!p && !atomic_load_explicit(&in->further[ODP_HUGE],
						memory_order_relaxed))
			atomic_store_explicit(&in->no_huge, true,
					      memory_order_relaxed);
	}
	if (!p && !must) {
		r->where = r->size < in->dir->lazy_size ? ODP_SMALL : ODP_LAZY;
		p = r->where == ODP_LAZY ? from_further(in, r)
					 : from_heap(in->dir->blocks, r);
	}
	if (!p)
		return -1;
	r->addr = (uintptr_t)p;
	r->page_size = tmc_shmem_page_size(
		r->where == ODP_SMALL ? in->shm
				      : odpi_further(in, r->where, false));
	return 0;
}

/* Of our own instance's: there is no more to do for an imported one. */
static void give_memory(const union odp_record *r)
{
	if (r->where != ODP_IMPORTED)
		tmc_mspace_free((void *)(uintptr_t)r->addr);
}

static union odp_record *new_record(struct odp_instance *in)
{
	return tmc_mspace_memalign(in->dir->records, ODP_RECORD_ALIGN,
				   ODP_RECORD_LEN);
}

/* Puts what @r says, a private one, into @there and that into the table. 0: it
 * is full, and @there has gone. */
static odp_shm_t publish(struct odp_instance *in, const union odp_record *r,
			 union odp_record *there)
{
	uint64_t nr;

	odpi_copy(there, r);
	nr = odpi_publish(in, there);
	if (nr)
		return handle(nr);
	tmc_mspace_free(there);
	return invalid(ENOSPC);
}

/* ----- reserve, free, lookup ----- */

/* Into a record: 0 or an errno. */
static int set_name(union odp_record *r, const char *name)
{
	size_t len = name ? strnlen(name, ODP_SHM_NAME_LEN) : 0;

	if (len == ODP_SHM_NAME_LEN)
		return ENAMETOOLONG;
	if (len)
		memcpy(r->name, name, len);
	return 0;
}

static int check(const struct odp_instance *in, uint64_t size, uint64_t align,
		 uint32_t flags)
{
	if (!size || align & (align - 1) || align > max_align(in) ||
	    flags & ~ODP_KNOWN_FLAGS)
		return EINVAL;
	return flags & ODP_SHM_HP && flags & ODP_SHM_NO_HP ? EINVAL : 0;
}

/* The record comes first: who dies while he gets the memory loses that, and
 * from when he has it the table is some stores away. */
odp_shm_t odp_shm_reserve(const char *name, uint64_t size, uint64_t align,
			  uint32_t flags)
{
	struct odp_instance *in = odpi_self();
	union odp_record r = { .size = size, .flags = flags }, *there;
	odp_shm_t shm;
	int err;

	if (!in)
		return ODP_SHM_INVALID;
	err = check(in, size, align, flags);
	if (!err)
		err = set_name(&r, name);
	if (err)
		return invalid(err);
	r.align = align > CACHE_LINE ? align : CACHE_LINE;
	r.creator = (uint64_t)getpid();
	there = new_record(in);
	if (!there)
		return ODP_SHM_INVALID;
	if (take_memory(in, &r)) {
		tmc_mspace_free(there);
		return ODP_SHM_INVALID;
	}
	shm = publish(in, &r, there);
	if (shm == ODP_SHM_INVALID)
		give_memory(&r);
	return shm;
}

/*
 * Who dies after the withdrawal has the block in hand, and loses it: the memory
 * goes first then, as it is larger than the record.
 */
int odp_shm_free(odp_shm_t shm)
{
	struct odp_instance *in = odpi_self();
	union odp_record r, *there;

	if (!in)
		return -1;
	errno = EINVAL;
	if (!odpi_read(in, number(shm), &r, NULL))
		return -1;
	/* What can fail comes before the block is ours alone. */
	if (r.where < ODP_FURTHER && !odpi_further(in, r.where, false))
		return -1;
	errno = EINVAL;
	there = odpi_withdraw(in, number(shm));
	if (!there)
		return -1;
	give_memory(&r);
	tmc_mspace_free(there);
	return 0;
}

odp_shm_t odp_shm_lookup(const char *name)
{
	struct odp_instance *in = odpi_self();
	union odp_record r;
	uint64_t nr = 0;

	if (!in)
		return ODP_SHM_INVALID;
	if (name && *name && strnlen(name, ODP_SHM_NAME_LEN) < ODP_SHM_NAME_LEN)
		nr = odpi_find(in, name, 0, &r);
	return nr ? handle(nr) : invalid(ENOENT);
}

odp_shm_t odp_shm_import(const char *remote_name, odp_instance_t odp_inst,
			 const char *local_name)
{
	struct odp_instance *in = odpi_self(), *other;
	union odp_record r, *there;
	int err;

	if (!in)
		return ODP_SHM_INVALID;
	if (!remote_name || !*remote_name || odp_inst == in->id)
		return invalid(EINVAL);
	if (strnlen(remote_name, ODP_SHM_NAME_LEN) == ODP_SHM_NAME_LEN)
		return invalid(ENAMETOOLONG);
	other = odpi_other(odp_inst);
	if (!other)
		return ODP_SHM_INVALID;
	r.remote = odpi_find(other, remote_name, ODP_SHM_EXPORT, &r);
	if (!r.remote)
		return invalid(ENOENT);
	if (r.where < ODP_FURTHER && !odpi_further(other, r.where, false))
		return ODP_SHM_INVALID;
	memset(r.name, 0, sizeof(r.name));
	err = set_name(&r, local_name);
	if (err)
		return invalid(err);
	r.where = ODP_IMPORTED;
	r.origin = odp_inst;
	r.flags &= ~ODP_SHM_EXPORT; /* that is up to the other instance */
	there = new_record(in);
	return there ? publish(in, &r, there) : ODP_SHM_INVALID;
}

/* ----- what is known of a block ----- */

/* Its record, with its memory open in this process. */
static int get(odp_shm_t shm, union odp_record *r, const union odp_record **at)
{
	struct odp_instance *in = odpi_self();
	union odp_record theirs;
	uint32_t where;

	if (!in)
		return -1;
	errno = EINVAL;
	if (!odpi_read(in, number(shm), r, at))
		return -1;
	where = r->where;
	if (where == ODP_IMPORTED) {
		/* Another process may have imported it. */
		in = odpi_other(r->origin);
		if (!in)
			return -1;
		errno = EINVAL;
		if (!odpi_read(in, r->remote, &theirs, NULL))
			return -1;
		where = theirs.where;
	}
	return where >= ODP_FURTHER || odpi_further(in, where, false) ? 0 : -1;
}

void *odp_shm_addr(odp_shm_t shm)
{
	union odp_record r;

	return get(shm, &r, NULL) ? NULL : (void *)(uintptr_t)r.addr;
}

int odp_shm_info(odp_shm_t shm, odp_shm_info_t *info)
{
	const union odp_record *at;
	union odp_record r;

	if (!info) {
		errno = EINVAL;
		return -1;
	}
	if (get(shm, &r, &at))
		return -1;
	info->name = at->name;
	info->addr = (void *)(uintptr_t)r.addr;
	info->size = r.size;
	info->page_size = r.page_size;
	info->flags = r.flags;
	info->num_seg = 1;
	return 0;
}

int odp_shm_segment_info(odp_shm_t shm, uint32_t index, uint32_t num,
			 odp_shm_segment_info_t info[])
{
	union odp_record r;

	if (index != 0 || num != 1 || !info) {
		errno = EINVAL;
		return -1;
	}
	if (get(shm, &r, NULL))
		return -1;
	info->addr = (uintptr_t)r.addr;
	info->iova = ODP_SHM_IOVA_INVALID;
	info->pa = ODP_SHM_PA_INVALID;
	info->len = r.size;
	return 0;
}

uint64_t odp_shm_to_u64(odp_shm_t hdl)
{
	return number(hdl);
}

/* ----- print ----- */

static void print_head(void)
{
	printf("%-31s %18s %14s %12s %9s %5s %-9s %s\n", "name", "handle",
	       "address", "size", "align", "pages", "flags", "by");
}

/* A terminal would do what a name says. */
static void clean_name(const char *name, char clean[ODP_SHM_NAME_LEN])
{
	size_t i;

	for (i = 0; i < ODP_SHM_NAME_LEN - 1 && name[i]; i++)
		clean[i] = name[i] < ' ' || name[i] > '~' ? '?' : name[i];
	clean[i] = '\0';
}

static void print_block(uint64_t nr, const union odp_record *r)
{
	static const char letters[] = "?PSEHAN";
	char name[ODP_SHM_NAME_LEN], flags[16] = "", by[48];
	int i, n = 0;

	clean_name(r->name, name);
	for (i = 1; i < 7; i++)
		if (r->flags & 1u << i)
			flags[n++] = letters[i];
	if (r->where == ODP_IMPORTED)
		snprintf(by, sizeof(by), "instance %#llx",
			 (unsigned long long)r->origin);
	else
		snprintf(by, sizeof(by), "process %llu",
			 (unsigned long long)r->creator);
	printf("%-31s %#18llx %#14llx %12llu %9llu %4lluK %-9s %s\n",
	       *name ? name : "-", (unsigned long long)nr,
	       (unsigned long long)r->addr, (unsigned long long)r->size,
	       (unsigned long long)r->align,
	       (unsigned long long)r->page_size >> 10, n ? flags : "-", by);
}

void odp_shm_print_all(void)
{
	struct odp_instance *in = odpi_self();
	uint64_t at = 0, nr, count = 0, bytes = 0;
	union odp_record r;

	if (!in)
		return;
	printf("ODP instance %#llx, shared memory blocks\n",
	       (unsigned long long)in->id);
	print_head();
	while ((nr = odpi_next(in, &at, &r))) {
		print_block(nr, &r);
		bytes += r.where == ODP_IMPORTED ? 0 : r.size;
		count++;
	}
	printf("%llu blocks, own ones with %llu bytes; flags: P proc, S single "
	       "va, E export, H huge pages, N no huge pages\n",
	       (unsigned long long)count, (unsigned long long)bytes);
}

void odp_shm_print(odp_shm_t shm)
{
	struct odp_instance *in = odpi_self();
	union odp_record r;

	if (in && odpi_read(in, number(shm), &r, NULL)) {
		print_head();
		print_block(number(shm), &r);
	} else {
		printf("no shared memory block: %#llx\n",
		       (unsigned long long)number(shm));
	}
}
