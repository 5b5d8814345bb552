/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/wire.h"
#include "base/check.h"
#include <inttypes.h>

#define WIRE_DEF "wire/messages.def"
#define WIRE_LINKAGE
#define WIRE_OURS WIRE_VERSION
#define WIRE_OP wire_op
#include "wire/define.h"

const char *wire_op_name(uint16_t op)
{
	const struct wire_op *o = wire_op(op);

	return o != NULL ? o->name : "?";
}

static void print_number(const void *at, uint32_t bytes, FILE *out)
{
	uint64_t v = bytes == 1 ? *(const uint8_t *)at : bytes == 2 ? *(const uint16_t *)at
		: bytes == 4 ? *(const uint32_t *)at : *(const uint64_t *)at;

	check(bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8);
	fprintf(out, "%" PRIu64, v);
}

static void print_bytes(struct bytes b, FILE *out)
{
	fputc('"', out);
	for (size_t i = 0; i < b.len; i++) {
		if (b.p[i] < ' ' || b.p[i] >= 0x7f || b.p[i] == '"' || b.p[i] == '\\')
			fprintf(out, "\\x%02x", b.p[i]);
		else
			fputc(b.p[i], out);
	}
	fputc('"', out);
}

static void print_list(const struct wire_sub *sub, struct wire_list l, FILE *out)
{
	uint64_t s[32]; /* a struct of the part */
	uint32_t n;
	const struct wire_field *fields = sub->fields(&n);
	const char *gap = "[{";

	check(sub->struct_bytes <= sizeof s);
	if (l.n == 0)
		fputc('[', out);
	while (sub->next(&l, s)) {
		fputs(gap, out);
		wire_print_fields(fields, n, s, out);
		gap = " } {";
	}
	fputs(gap[0] == ' ' ? " }]" : "]", out);
}

void wire_print_fields(const struct wire_field *fields, uint32_t n, const void *m, FILE *out)
{
	for (const struct wire_field *f = fields; f < fields + n; f++) {
		const void *at = (const char *)m + f->offset;

		fprintf(out, " %s=", f->name);
		switch (f->kind) {
		case WIRE_NUMBER:
			print_number(at, f->max, out);
			break;
		case WIRE_BYTES:
			print_bytes(*(const struct bytes *)at, out);
			break;
		case WIRE_SECRET:
			fprintf(out, "<%zu bytes>", ((const struct bytes *)at)->len);
			break;
		case WIRE_LIST:
			print_list(f->sub, *(const struct wire_list *)at, out);
			break;
		}
	}
}

void wire_print(const struct wire_op *op, const void *m, FILE *out)
{
	uint32_t n;
	const struct wire_field *fields = op->fields(&n);

	fputs(op->name, out);
	wire_print_fields(fields, n, m, out);
}
