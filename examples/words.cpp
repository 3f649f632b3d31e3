/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * words.cpp - two processes share a std::map and a std::vector of strings.
 *
 * Makes an arena with a heap, removes its name, and starts itself once more,
 * with a descriptor of it. Both count words, each those of its half of a text,
 * in one map, and note them down in one vector, under a mutex beside them. Run
 * it as .build/examples/words. The arena is made in $TMPDIR, or in /dev/shm.
 *
 * The mutex is robust: who meets the other's death in the middle of a change
 * gives up, since a container that is half changed cannot be put right. The
 * heap needs no such care. table.c has data that outlive a death.
 */
#include <cstdio>
#include <cstdlib>
#include <map>
#include <pthread.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <vector>
#include <shmem.h>
#include "shm_allocator.hpp"

using word_count = std::pair<const shm_string, unsigned int>;

static const unsigned int rounds = 2000;
static const char *const words[2][4] = {
	{ "plain pointers", "in one memory at one address", "are", "words" },
	{ "words", "are", "shared", "by programs that share nothing else" },
};

static void check(bool good, const char *what)
{
	if (!good)
		throw std::system_error(errno, std::generic_category(), what);
}

struct shared {
	explicit shared(tmc_mspace heap) : count(heap), noted(heap)
	{
		pthread_mutexattr_t a;

		pthread_mutexattr_init(&a);
		pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
		pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
		check(!pthread_mutex_init(&lock, &a), "mutex");
	}

	pthread_mutex_t lock;
	std::map<shm_string, unsigned int, std::less<shm_string>,
		 shm_scoped<word_count>>
		count;
	std::vector<shm_string, shm_scoped<shm_string>> noted;
};

static void work(shared *s, int half)
{
	for (unsigned int i = 0; i < rounds * 4; i++) {
		const char *word = words[half][i % 4];

		errno = pthread_mutex_lock(&s->lock);
		check(!errno, "the other one died");
		s->count[shm_string(word, s->noted.get_allocator())]++;
		s->noted.emplace_back(word);
		pthread_mutex_unlock(&s->lock);
	}
}

static int share(const char *program, tmc_shmem_t *shm)
{
	tmc_mspace heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
						    tmc_shmem_alloc(shm));
	shared *s = shm_new<shared>(heap, heap);
	int status = -1;
	size_t used;
	pid_t pid;

	check(!tmc_shmem_set_data(shm, s), "root pointer");
	pid = fork();
	if (!pid) {
		if (dup2(tmc_shmem_fd(shm), 0) == 0)
			execl(program, program, "-", nullptr);
		_exit(127);
	}
	work(s, 0);
	check(waitpid(pid, &status, 0) == pid && !status, "second process");
	for (const word_count &c : s->count)
		std::printf("words: %4u %s\n", c.second, c.first.c_str());
	status = s->noted.size() != rounds * 8;
	shm_delete(s);
	tmc_mspace_trim(heap, 0); /* counts what the other one had, too */
	tmc_mspace_statistics(heap, nullptr, nullptr, &used);
	std::printf("words: then %zu bytes are in use\n", used);
	return status || used;
}

int main(int argc, char **argv)
try {
	const char *dir = std::getenv("TMPDIR");
	std::string path = (dir ? dir : "/dev/shm") + std::string("/XXXXXX");
	tmc_shmem_t *shm;
	int err = 0;

	if (argc == 1) {
		shm = tmc_shmem_create_temp(&path[0], nullptr, nullptr, 0);
		check(shm && !tmc_shmem_unlink(path.c_str()), path.c_str());
		err = share(argv[0], shm);
	} else {
		shm = tmc_shmem_open_fds(0, -1);
		check(shm, "arena");
		work(static_cast<shared *>(tmc_shmem_get_data(shm)), 1);
	}
	tmc_shmem_close(shm);
	return err;
} catch (const std::exception &e) {
	std::fprintf(stderr, "words: %s\n", e.what());
	return 1;
}
