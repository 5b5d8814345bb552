/* SPDX-License-Identifier: Apache-2.0 */
/* Input: bytes into frames.  All whole frames of one receive are handled before the next one.  Bulk
 * data that somebody has room for goes there straight from the door: where one frame had much of
 * it, only a little is received in front of the next.  The buffer grows only for fields and for
 * data that a handler wants in one piece, and only as the bytes come in. */
#include "rpc/own.h"
#include <stdlib.h>

/* At least one byte, or why not.  A connection that always has more lets the others run. */
static int64_t receive(struct rpc_conn *c, void *buf, size_t cap, uint64_t until_ns)
{
	struct in *in = &c->in;
	int64_t n;

	if (in->turn_bytes >= TURN_BYTES_MAX && fiber_late() < 0)
		return E_CANCELED;
	n = sys_recv(c->stream, buf, cap, until_ns);
	if (n <= 0)
		return n == 0 ? E_CLOSED : n;
	if (loop_turns(c->loop) != in->turns) { /* it parked */
		in->turns = loop_turns(c->loop);
		in->turn_bytes = 0;
	}
	in->turn_bytes += (size_t)n;
	c->counts->in_bytes += (uint64_t)n;
	return n;
}

static size_t buffered(const struct in *in) { return in->tail - in->head; }

/* Makes room behind the tail on the way to a frame of need bytes. */
static int make_room(struct rpc_conn *c, size_t need)
{
	struct in *in = &c->in;
	size_t cap = in->cap;
	uint8_t *p;

	if (in->head > 0)
		memmove(in->p, in->p + in->head, buffered(in));
	in->tail -= in->head;
	in->head = 0;
	if (in->tail == 0 && cap > IN_BYTES && need <= IN_BYTES)
		cap = IN_BYTES;
	else if (in->tail == cap)
		cap = cap * 2 < need ? cap * 2 : need;
	if (cap == in->cap)
		return 0;
	check(cap > in->tail);
	p = realloc(in->p, cap);
	if (p == NULL)
		return rpc_conn_fail(c, E_NOMEM, "%s: no memory for %zu bytes of input", c->name,
			cap);
	in->p = p;
	in->cap = cap;
	return 0;
}

/* Receives once towards need bytes in the buffer. */
static int fill(struct rpc_conn *c, size_t need)
{
	struct in *in = &c->in;
	uint64_t until_ns = FOREVER; /* an idle connection is fine */
	size_t room;
	int64_t n;
	int rc = make_room(c, need);

	if (rc < 0)
		return rc;
	check(in->tail < in->cap);
	room = in->cap - in->tail;
	if (in->bulk && room > BULK_HEAD_BYTES) /* the rest goes where it belongs, uncopied */
		room = BULK_HEAD_BYTES;
	if (c->state.now == CONN_HELLO && c->server != NULL)
		until_ns = c->born_ns + c->limits.hello_ns;
	else if (in->tail > 0)
		until_ns = loop_now_ns(c->loop) + c->limits.frame_ns;
	n = receive(c, in->p + in->tail, room, until_ns);
	if (n == E_TIMEOUT)
		return rpc_conn_broken(c, "nothing came for too long inside a %s",
			c->state.now == CONN_HELLO ? "hello" : "frame");
	if (n < 0)
		return (int)n;
	in->tail += (size_t)n;
	return 0;
}

int rpc_in_take(struct rpc_conn *c, void *buf, size_t len, uint64_t until_ns,
	const struct rpc_call *call)
{
	struct in *in = &c->in;
	size_t done = buffered(in) < len ? buffered(in) : len;
	uint64_t stall_ns = loop_now_ns(c->loop) + c->limits.frame_ns, slice_ns, now_ns;
	int64_t n;

	check(len <= in->left);
	if (done > 0)
		memcpy(buf, in->p + in->head, done);
	in->head += done;
	in->left -= (uint32_t)done;
	while (done < len) {
		now_ns = loop_now_ns(c->loop);
		slice_ns = stall_ns < until_ns ? stall_ns : until_ns;
		if (call != NULL && slice_ns > now_ns + LET_GO_NS)
			slice_ns = now_ns + LET_GO_NS;
		n = receive(c, (uint8_t *)buf + done, len - done, slice_ns);
		now_ns = loop_now_ns(c->loop);
		if (n > 0) {
			done += (size_t)n;
			in->left -= (uint32_t)n;
			stall_ns = now_ns + c->limits.frame_ns;
		}
		if (call != NULL && in->into_dropped)
			return E_CANCELED;
		if (n == E_TIMEOUT && now_ns < stall_ns && now_ns < until_ns)
			continue;
		if (n < 0)
			return (int)n;
	}
	return 0;
}

/* Passes over what is left of the current frame's data. */
static int skip(struct rpc_conn *c)
{
	struct in *in = &c->in;
	size_t len = buffered(in) < in->left ? buffered(in) : in->left;
	int64_t n;

	in->head += len;
	in->left -= (uint32_t)len;
	while (in->left > 0) { /* then the buffer is empty: it serves as the bin */
		check(in->head == in->tail);
		in->head = in->tail = 0;
		n = receive(c, in->p, in->cap < in->left ? in->cap : in->left,
			loop_now_ns(c->loop) + c->limits.frame_ns);
		if (n < 0)
			return (int)n;
		in->left -= (uint32_t)n;
	}
	return 0;
}

/* Handles the frame at the head when it is there: 1; 0 when *ret_need bytes are needed first; or
 * the end of the connection. */
static int frame_handle(struct rpc_conn *c, size_t *ret_need)
{
	struct in *in = &c->in;
	const uint8_t *header = in->p + in->head, *body = header + FRAME_HEADER_BYTES;
	bool reply;
	struct frame f;
	size_t whole;
	int rc;

	*ret_need = FRAME_HEADER_BYTES;
	if (buffered(in) < FRAME_HEADER_BYTES)
		return 0;
	if (frame_get(header, &f) < 0)
		return rpc_conn_broken(c, "these bytes are no frame");
	reply = (f.flags & FRAME_REPLY) != 0;
	whole = FRAME_HEADER_BYTES + f.body_len;
	if (f.data_len <= LIMIT_INLINE_BYTES_MAX)
		whole += f.data_len; /* the checksum covers it */
	else if (!reply)
		whole += rpc_request_buffered(c, &f);
	*ret_need = whole;
	if (buffered(in) < whole)
		return 0;
	if (!frame_verify(&f, header, body, body + f.body_len))
		return rpc_conn_broken(c, "the checksum of a frame is wrong");
	if (c->state.now == CONN_OPEN && f.version > c->version)
		return rpc_conn_broken(c, "a frame of version %u, agreed was %u", f.version,
			c->version);
	in->left = f.data_len;
	in->bulk = f.data_len > IN_BYTES;
	in->head += FRAME_HEADER_BYTES + f.body_len;
	rc = reply ? rpc_reply_handle(c, &f, body) : rpc_request_handle(c, &f, body);
	if (rc == 0)
		rc = skip(c);
	return rc < 0 ? rc : 1;
}

/* A peer that does not take its answers is not asked for more. */
static int wait_for_room(struct rpc_conn *c)
{
	while (c->out_bytes >= c->limits.out_bytes) {
		/* ends: the writer has a deadline, the owner of the gates ends the connection */
		int rc = waitq_wait(&c->room_q, FOREVER);

		if (rc < 0)
			return rc;
		if (c->why.text[0] != '\0')
			return E_CLOSED;
	}
	return 0;
}

int rpc_reader_run(struct rpc_conn *c)
{
	for (;;) {
		size_t need;
		int rc;

		while ((rc = frame_handle(c, &need)) > 0) {
			if (!conn_talks(c))
				return E_CLOSED;
			if (c->out_bytes >= c->limits.out_bytes && (rc = wait_for_room(c)) < 0)
				return rc;
		}
		if (rc == 0)
			rc = fill(c, need);
		if (rc < 0)
			return rc;
	}
}
