/* SPDX-License-Identifier: Apache-2.0 */
/* Prints docs/wire.md: the messages as a page for people, from the rows that the codecs are made
 * of. */
#include "wire/frame.h"
#include "wire/wire.h"

static void print_fields(const struct wire_field *fields, uint32_t n)
{
	if (n == 0) {
		puts("No fields.");
		return;
	}
	puts("| field | type | since |");
	puts("|---|---|---|");
	for (const struct wire_field *f = fields; f < fields + n; f++) {
		printf("| `%s` | ", f->name);
		switch (f->kind) {
		case WIRE_NUMBER: printf("u%u", f->max * 8); break;
		case WIRE_BYTES: printf("bytes, at most %u", f->max); break;
		case WIRE_SECRET: printf("secret bytes, at most %u", f->max); break;
		case WIRE_LIST: printf("list of *%s*, at most %u", f->sub->name, f->max); break;
		}
		printf(" | %u |\n", f->since);
	}
}

/* Each part is described where it is first used. */
static void print_parts(const struct wire_field *fields, uint32_t n, const char **seen,
	unsigned *n_seen)
{
	for (const struct wire_field *f = fields; f < fields + n; f++) {
		unsigned i = 0;
		uint32_t n_parts;
		const struct wire_field *parts;

		if (f->kind != WIRE_LIST)
			continue;
		while (i < *n_seen && seen[i] != f->sub->name)
			i++;
		if (i < *n_seen)
			continue;
		seen[(*n_seen)++] = f->sub->name;
		parts = f->sub->fields(&n_parts);
		printf("\nPart *%s*\n\n", f->sub->name);
		print_fields(parts, n_parts);
		print_parts(parts, n_parts, seen, n_seen);
	}
}

int main(void)
{
	const char *seen[WIRE_OPS_MAX];
	unsigned n_seen = 0;

	printf("# The wire, version %d\n\n", WIRE_VERSION);
	puts("Made from `src/wire/*.def` by `src/wire/doc.c`; do not edit. The drawings of the\n"
		"conversations stand at the top of those files, the frame around each message\n"
		"in `src/wire/frame.h`. Numbers are little-endian; bytes are a u32 length and\n"
		"that many bytes; a list is a u32 count, a u32 length and that many parts.");
	for (unsigned op = 0; op < WIRE_OPS_MAX; op++) {
		const struct wire_op *o = wire_op((uint16_t)op);
		const struct wire_field *fields;
		uint32_t n;

		if (o == NULL)
			continue;
		fields = o->fields(&n);
		printf("\n## %u `%s`\n\n", op, o->name);
		print_fields(fields, n);
		print_parts(fields, n, seen, &n_seen);
	}
	return 0;
}
