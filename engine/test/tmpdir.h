/*
 * tmpdir.h
 *	  Where tests put their files: in memory if the system offers that, because
 *	  what a sync costs is not what they are about.
 */
#ifndef LTG_TEST_TMPDIR_H
#define LTG_TEST_TMPDIR_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Makes a directory and writes its name to buf; false when that fails. */
static inline bool
test_tmpdir(char *buf, size_t size, const char *name)
{
	snprintf(buf, size, "%s/%s-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", name);
	return mkdtemp(buf) != NULL;
}

#endif
