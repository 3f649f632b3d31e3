/* SPDX-License-Identifier: BSD-3-Clause */
/* consumer.c - a program of somebody else's, in C and in C++; install.sh. */
#include <shmem.h>

#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

static int use(char *path)
{
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;
	char *text;

	if (!tmc_alloc_set_thp(tmc_alloc_set_pagesize(&alloc, 1)))
		return 1;
	shm = tmc_shmem_create_temp(path, &alloc, NULL, 1 << 20);
	if (!shm)
		return 2;
	if (tmc_shmem_unlink(path))
		return 3;
	text = (char *)tmc_shmem_grow(shm, 100);
	if (!text || tmc_shmem_set_data(shm, text))
		return 4;
	strcpy(text, "shared");
	if (strcmp((char *)tmc_shmem_get_data(shm), "shared"))
		return 5;
	tmc_shmem_close(shm);
	return tmc_shmem_version() !=
	       (TMC_SHMEM_VERSION_MAJOR << 16 | TMC_SHMEM_VERSION_MINOR << 8 |
		TMC_SHMEM_VERSION_PATCH);
}

#ifdef __cplusplus
}
#endif

int main(void)
{
	char path[] = "/tmp/consumer.XXXXXX";
	int rc = use(path);

	if (rc) {
		perror("consumer");
		printf("step %d\n", rc);
	}
	return rc;
}
