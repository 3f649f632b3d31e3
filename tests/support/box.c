/* SPDX-License-Identifier: BSD-3-Clause */
/* box.c - a private place for tests. The guardian's part is in guard.c. */
#include "box.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guard.h"

static struct {
	char dir[64];
	int can_mount;
	struct guard guard;
} box;

const char *box_path(const char *name)
{
	static char room[16][PATH_MAX];
	static unsigned int next;
	char *p = room[next++ % 16];

	snprintf(p, PATH_MAX, "%s%s%s", box.dir, *name ? "/" : "", name);
	return p;
}

/* The system's own mounts would serve where a test wants none. */
static void drop_hugetlbfs(void)
{
	FILE *f = fopen("/proc/self/mounts", "re");
	char where[PATH_MAX], type[64], line[2 * PATH_MAX];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %4095s %63s", where, type) == 2 &&
		    !strcmp(type, "hugetlbfs"))
			umount2(where, MNT_DETACH);
	if (f)
		fclose(f);
}

static int all_private(void)
{
	return mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL);
}

/*
 * In a plain chroot "/" is no mount, and the mount that it lies on has no
 * name. Entering the namespace that we are in leads to its real root, and
 * what we remember by descriptor leads back.
 */
static int all_private_from_chroot(void)
{
	int ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int err = ns < 0 || root < 0 || here < 0 || setns(ns, CLONE_NEWNS);

	if (!err) {
		err = all_private();
		if (fchdir(root) || chroot(".") || fchdir(here))
			abort(); /* in somebody else's tree */
	}
	close(ns);
	close(root);
	close(here);
	return err;
}

static int own_namespace(void)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) ||
	    (all_private() && all_private_from_chroot()))
		return 0;
	drop_hugetlbfs();
	return mount("box", box.dir, "tmpfs", 0, "mode=1777") == 0;
}

int box_open(void)
{
	strcpy(box.dir, "/tmp/shmtest.XXXXXX");
	if (!mkdtemp(box.dir))
		return -1;
	if (guard_start(&box.guard, box.dir)) {
		rmdir(box.dir);
		return -1;
	}
	box.can_mount = own_namespace();
	return 0;
}

void box_close(void)
{
	FILE *f;
	char where[PATH_MAX], line[2 * PATH_MAX], last[PATH_MAX];

	/* Loop devices are free again when this returns, not some time later */
	for (;;) {
		f = fopen("/proc/self/mounts", "re");
		*last = '\0';
		while (f && fgets(line, sizeof(line), f))
			if (sscanf(line, "%*s %4095s", where) == 1 &&
			    !strncmp(where, box.dir, strlen(box.dir)))
				strcpy(last, where);
		if (f)
			fclose(f);
		if (!*last || (umount2(last, 0) && umount2(last, MNT_DETACH)))
			break;
	}
	guard_stop(&box.guard);
}

int box_can_mount(void)
{
	return box.can_mount;
}

static int make_dir(const char *name)
{
	return mkdir(box_path(name), 0777) && errno != EEXIST ? -1 : 0;
}

int box_mount(const char *name, const char *type, const char *options)
{
	if (!box.can_mount || make_dir(name))
		return -1;
	return mount("box", box_path(name), type, 0, options);
}

int box_overlay(const char *name)
{
	char lower[32], upper[32], work[32], options[PATH_MAX];

	snprintf(lower, sizeof(lower), "%s.lower", name);
	snprintf(upper, sizeof(upper), "%s.upper", name);
	snprintf(work, sizeof(work), "%s.work", name);
	if (make_dir(lower) || make_dir(upper) || make_dir(work))
		return -1;
	snprintf(options, sizeof(options), "lowerdir=%s,upperdir=%s,workdir=%s",
		 box_path(lower), box_path(upper), box_path(work));
	return box_mount(name, "overlay", options);
}

int box_hugetlbfs(const char *name, size_t pagesize, const char *options)
{
	char all[256];

	snprintf(all, sizeof(all), "pagesize=%zu,mode=1777%s%s", pagesize,
		 *options ? "," : "", options);
	return box_mount(name, "hugetlbfs", all);
}

static int run(const char *a, const char *b, const char *c, const char *d,
	       const char *e, const char *f)
{
	const char *const argv[] = { a, b, c, d, e, f, NULL };
	pid_t pid = fork();
	int status, null;

	if (pid == 0) {
		null = open("/dev/null", O_RDWR);
		dup2(null, 1);
		dup2(null, 2);
		signal(SIGPIPE, SIG_DFL);
		setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
		execvp(a, (char *const *)argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -1;
	return status ? -1 : 0;
}

int box_image(const char *name, const char *type, size_t mib)
{
	char image[64], mkfs[32];
	const char *path;
	int fd, err;

	snprintf(image, sizeof(image), "%s.img", name);
	snprintf(mkfs, sizeof(mkfs), "mkfs.%s", type);
	path = box_path(image);
	if (!box.can_mount || make_dir(name))
		return -1;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	err = ftruncate(fd, (off_t)(mib << 20));
	close(fd);
	if (err ||
	    run(mkfs, "-q", strcmp(type, "ext4") ? "-f" : "-F", path, NULL,
		NULL) ||
	    run("mount", "-t", type, "-oloop", path, box_path(name))) {
		unlink(path);
		rmdir(box_path(name));
		return -1;
	}
	chmod(box_path(name), 01777);
	return 0;
}

static void remove_tree(const char *name, const char *suffix)
{
	char all[64];

	snprintf(all, sizeof(all), "%s%s", name, suffix);
	guard_remove(box_path(all));
}

int box_umount(const char *name)
{
	if (umount2(box_path(name), 0))
		return -1;
	remove_tree(name, "");
	remove_tree(name, ".img");
	remove_tree(name, ".lower");
	remove_tree(name, ".upper");
	remove_tree(name, ".work");
	return 0;
}

size_t box_pool(size_t pagesize, size_t npages)
{
	return box.can_mount ? guard_pool(&box.guard, pagesize, npages) : 0;
}

void box_pool_end(void)
{
	guard_pool(&box.guard, 0, 0);
}

size_t box_pool_free(size_t pagesize)
{
	return guard_pool_read(pagesize, "free_hugepages");
}

size_t box_pool_size(size_t pagesize)
{
	return guard_pool_read(pagesize, "nr_hugepages");
}
