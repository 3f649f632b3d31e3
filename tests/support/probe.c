/* SPDX-License-Identifier: BSD-3-Clause */
/* probe.c - what a process holds. */
#include "probe.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

size_t probe_files(const char *dir)
{
	DIR *d = opendir(dir);
	size_t n = 0;

	if (!d)
		return (size_t)-1;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

size_t probe_fds(void)
{
	return probe_files("/proc/self/fd") - 1;
}

size_t probe_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	size_t n = 0;
	int c;

	if (!f)
		return 0;
	while ((c = getc(f)) != EOF)
		n += c == '\n';
	fclose(f);
	return n;
}

size_t probe_space(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	size_t pages = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%zu", &pages) != 1)
		pages = 0;
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

size_t probe_resident(const void *start, size_t len)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char seen[4096];
	const char *p = start;
	size_t i, n = 0, want;

	for (len /= page; len; len -= want, p += want * page) {
		want = len < sizeof(seen) ? len : sizeof(seen);
		if (mincore((void *)(uintptr_t)p, want * page, seen))
			break;
		for (i = 0; i < want; i++)
			n += seen[i] & 1;
	}
	return n * page;
}

size_t probe_present(const void *start, size_t len)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t i, n = 0, at = (uintptr_t)start / page, all = len / page * page;
	uint64_t word[512];
	ssize_t got;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	for (len /= page; len; len -= (size_t)got, at += (size_t)got) {
		size_t want = len < 512 ? len : 512;

		got = pread(fd, word, want * 8, (off_t)(at * 8)) / 8;
		if (got <= 0)
			break;
		/* Present, or a page that compaction moves right now. */
		for (i = 0; i < (size_t)got; i++)
			n += word[i] >> 62 != 0;
	}
	close(fd);
	n *= page;
	if (n < all && n >= all - all / 8 && probe_resident(start, all) == all)
		return all;
	return n;
}

int probe_zero(const void *start, size_t len)
{
	const char *p = start;

	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

int probe_free(const void *start, size_t len)
{
	uintptr_t from = (uintptr_t)start, lo, hi;
	FILE *f = fopen("/proc/self/maps", "re");
	char line[4352];
	int is_free = 1;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx", &lo, &hi) == 2 && lo < from + len &&
		    from < hi)
			is_free = 0;
	if (f)
		fclose(f);
	return f && is_free;
}

size_t probe_smaps(const void *p, const char *field)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long lo, hi;
	size_t kb = 0, n = strlen(field);
	char line[4352];
	int inside = 0;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &lo, &hi) == 2)
			inside = lo <= (uintptr_t)p && (uintptr_t)p < hi;
		else if (inside && !strncmp(line, field, n) && line[n] == ':')
			sscanf(line + n + 1, "%zu", &kb);
	}
	if (f)
		fclose(f);
	return kb;
}

void *probe_occupy(void *start, size_t len)
{
	void *p = mmap(start, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	if (start && p != start) {
		munmap(p, len);
		return NULL;
	}
	return memset(p, 0x5a, len);
}

int probe_untouched(void *start, size_t len)
{
	const unsigned char *p = start;
	int same = p[0] == 0x5a && memcmp(p, p + 1, len - 1) == 0;

	munmap(start, len);
	return same;
}

long long probe_blocks(const char *path)
{
	struct stat st;

	return stat(path, &st) ? -1 : (long long)st.st_blocks;
}
