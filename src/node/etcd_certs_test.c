/* SPDX-License-Identifier: Apache-2.0 */
/* etcd's certificates are the same on every node of a cluster and after every start, and others for
 * another key; files that are good are left alone. */
#include "node/etcd_certs.h"
#include "base/check.h"
#include "sys/uv/cert.h"
#include "sys/uv/sys_uv.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define KEY "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define OTHER_KEY "100102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
enum { DIR_BYTES = 64 };

static struct sys *s;
static struct err_note note;
static bool passed; /* a test that has failed leaves its fiber where it is */
static char dirs[2][DIR_BYTES];
static struct etcd_certs certs[2];
static char texts[2][ETCD_FILES][CERT_PEM_MAX];

static void load(int which)
{
	for (int i = 0; i < ETCD_FILES; i++) {
		FILE *f = fopen(certs[which].path[i], "r");

		memset(texts[which][i], 0, CERT_PEM_MAX);
		if (f == NULL)
			continue;
		assert_true(fread(texts[which][i], 1, CERT_PEM_MAX - 1, f) > 0);
		fclose(f);
	}
}

static void write_one(int which, const char *key, const char *url)
{
	int rc = etcd_certs_write(s, &certs[which], key, url, &note);

	if (rc < 0)
		printf("%s\n", note.text);
	assert_int_equal(rc, 0);
	load(which);
}

static int all(void *arg)
{
	struct cert_facts f;

	write_one(0, KEY, "https://10.0.0.1:10234");
	write_one(1, KEY, "https://[fe80::1]:10234");
	assert_string_equal(texts[0][ETCD_FILE_CA], texts[1][ETCD_FILE_CA]);
	assert_string_equal(texts[0][ETCD_FILE_CLIENT], texts[1][ETCD_FILE_CLIENT]);
	assert_string_equal(texts[0][ETCD_FILE_KEY], texts[1][ETCD_FILE_KEY]);
	assert_int_equal(cert_read(texts[0][ETCD_FILE_CA], NULL, &f, &note), 0);
	assert_int_equal(f.role, CERT_AUTHORITY);
	assert_int_equal(cert_read(texts[0][ETCD_FILE_CLIENT], texts[0][ETCD_FILE_KEY], &f, &note),
		0);
	assert_int_equal(f.role, CERT_CLIENT);
	assert_true(f.key_fits);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(cert_read(texts[i][ETCD_FILE_MEMBER], texts[i][ETCD_FILE_KEY], &f,
			&note), 0);
		assert_int_equal(f.role, CERT_NODE);
		assert_true(f.key_fits);
		assert_string_equal(f.hosts, i == 0 ? "10.0.0.1,localhost,127.0.0.1,::1"
			: "fe80::1,localhost,127.0.0.1,::1");
	}
	/* what is good is left alone: behind a link it stays */
	char real[WHERE_MAX + 8], at[8];

	snprintf(real, sizeof real, "%s.real", certs[0].path[ETCD_FILE_CA]);
	assert_int_equal(rename(certs[0].path[ETCD_FILE_CA], real), 0);
	assert_int_equal(symlink(real, certs[0].path[ETCD_FILE_CA]), 0);
	write_one(0, KEY, "https://10.0.0.1:10234");
	assert_true(readlink(certs[0].path[ETCD_FILE_CA], at, sizeof at) > 0);
	/* another key makes others, over the old ones */
	write_one(0, OTHER_KEY, "https://10.0.0.1:10234");
	assert_true(readlink(certs[0].path[ETCD_FILE_CA], at, sizeof at) < 0);
	for (int i = 0; i < ETCD_FILES; i++)
		assert_string_not_equal(texts[0][i], texts[1][i]);
	return 0;
}

static int bad(void *arg)
{
	assert_int_equal(etcd_certs_write(s, &certs[0], "", "", &note), E_INVALID);
	assert_int_equal(etcd_certs_write(s, &certs[0], KEY, "https:/", &note), E_CORRUPT);
	assert_int_equal(etcd_certs_write(s, &certs[0], KEY, "https://:1", &note), E_CORRUPT);
	load(0);
	for (int i = 0; i < ETCD_FILES; i++)
		assert_string_equal(texts[0][i], "");
	/* who only asks has no member's */
	write_one(0, KEY, "");
	assert_string_equal(texts[0][ETCD_FILE_MEMBER], "");
	assert_string_not_equal(texts[0][ETCD_FILE_CLIENT], "");
	return 0;
}

static int setup(void **state)
{
	passed = false;
	for (int i = 0; i < 2; i++) {
		snprintf(dirs[i], DIR_BYTES, "/tmp/wadi-certs-XXXXXX");
		assert_non_null(mkdtemp(dirs[i]));
		assert_int_equal(etcd_certs_init(&certs[i], dirs[i], &note), 0);
	}
	return sys_uv_new(&s, &note);
}

static int teardown(void **state)
{
	char path[WHERE_MAX + 8];

	for (int i = 0; i < 2; i++) {
		for (int j = 0; j < ETCD_FILES; j++)
			(void)unlink(certs[i].path[j]);
		snprintf(path, sizeof path, "%s/etcd.ca.real", dirs[i]);
		(void)unlink(path);
		(void)rmdir(dirs[i]);
	}
	if (passed)
		sys_uv_free(s);
	return 0;
}

static void run(fiber_fn *fn)
{
	assert_int_equal(sys_uv_run(s, "test", fn, NULL), 0);
	passed = true;
}

static void they_are_made_of_the_key(void **state)
{
	run(all);
}
static void nonsense_makes_none(void **state)
{
	run(bad);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(they_are_made_of_the_key, setup, teardown),
		cmocka_unit_test_setup_teardown(nonsense_makes_none, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
