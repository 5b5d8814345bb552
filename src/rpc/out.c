/* SPDX-License-Identifier: Apache-2.0 */
/* Output: frames are appended to `ready` during a turn; the writer swaps it with `sending` at the
 * turn's end and hands it to the door, pinned bytes from where they are. */
#include "rpc/own.h"
#include <stdlib.h>

static int grow(struct rpc_conn *c, struct out *o, size_t need)
{
	size_t cap = o->cap == 0 ? OUT_BYTES : o->cap;
	uint8_t *p;

	while (cap < need)
		cap *= 2;
	p = realloc(o->p, cap);
	if (p == NULL)
		return rpc_conn_fail(c, E_NOMEM, "%s: no memory for %zu bytes of output", c->name,
			cap);
	o->p = p;
	o->cap = cap;
	return 0;
}

static int grow_pins(struct rpc_conn *c, struct out *o, uint32_t need)
{
	uint32_t cap = o->cap_pins == 0 ? 8 : o->cap_pins;
	struct pin *pins;

	while (cap < need)
		cap *= 2;
	pins = realloc(o->pins, cap * sizeof *pins);
	if (pins == NULL)
		return rpc_conn_fail(c, E_NOMEM, "%s: no memory for %u pins", c->name, cap);
	o->pins = pins;
	o->cap_pins = cap;
	return 0;
}

int rpc_out_reserve(struct rpc_conn *c, struct out *o, size_t bytes, uint32_t pins)
{
	int rc = 0;

	if (o->cap - o->len < bytes)
		rc = grow(c, o, o->len + bytes);
	if (rc == 0 && o->cap_pins - o->n_pins < pins)
		rc = grow_pins(c, o, o->n_pins + pins);
	return rc;
}

/* Header and fields, and room for copied data behind them. */
static int append(struct rpc_conn *c, struct out *o, struct frame *f, const void *msg,
	struct bytes data, bool copy)
{
	const struct wire_op *op = wire_op(f->op);
	size_t body_len = op->size(msg, f->version), room = FRAME_HEADER_BYTES + body_len;
	const uint8_t *from = data.p;
	struct writer w;
	int rc;

	if (body_len > LIMIT_FRAME_BODY_BYTES_MAX || data.len > LIMIT_FRAME_DATA_BYTES_MAX)
		return E_TOOBIG;
	room += copy ? data.len : 0;
	if (o->cap - o->len < room && (rc = grow(c, o, o->len + room)) < 0)
		return rc;
	w = writer_of(o->p + o->len + FRAME_HEADER_BYTES, body_len);
	if (!op->put(&w, msg, f->version))
		return E_TOOBIG;
	if (copy && data.len > 0)
		from = memcpy(w.p, data.p, data.len);
	f->body_len = (uint32_t)body_len;
	f->data_len = (uint32_t)data.len;
	frame_put(f, o->p + o->len + FRAME_HEADER_BYTES, from, o->p + o->len);
	o->len += room;
	c->out_bytes += room;
	return 0;
}

int rpc_out_frame(struct rpc_conn *c, struct out *o, const struct frame *f, const void *msg,
	struct bytes data)
{
	struct frame copy = *f;

	return append(c, o, &copy, msg, data, true);
}

static void add_pin(struct rpc_conn *c, struct out *o, struct pin *pin, const uint8_t *p,
	size_t len)
{
	pin->at = o->len;
	pin->p = p;
	pin->len = len;
	pin->sent = 0;
	o->pins[o->n_pins++] = *pin;
	o->pinned += len;
	c->out_bytes += len;
}

int rpc_out_frame_pinned(struct rpc_conn *c, struct out *o, const struct frame *f, const void *msg,
	struct bytes data, struct pin *pin)
{
	struct frame copy = *f;
	int rc = o->n_pins < o->cap_pins ? 0 : grow_pins(c, o, o->n_pins + 1);

	if (rc == 0)
		rc = append(c, o, &copy, msg, data, false);
	if (rc < 0)
		return rc;
	add_pin(c, o, pin, data.p, data.len);
	return 0;
}

int rpc_out_frame_shm(struct rpc_conn *c, const struct frame *f, const void *msg, struct pin *pin,
	uint8_t **ret_bytes)
{
	struct out alone = { 0 };
	int rc = rpc_out_reserve(c, &c->ready, 0, 1);

	if (rc == 0)
		rc = rpc_out_frame(c, &alone, f, msg, bytes_of(NULL, 0));
	if (rc < 0) {
		free(alone.p);
		return rc;
	}
	c->out_bytes -= alone.len; /* counted as pinned instead */
	add_pin(c, &c->ready, pin, alone.p, alone.len);
	*ret_bytes = alone.p;
	return 0;
}

static void pin_release(struct pin *p)
{
	void (*release)(void *arg) = p->release;

	p->release = NULL;
	p->call = NULL;
	if (release != NULL)
		release(p->arg);
}

void rpc_out_clear(struct rpc_conn *c, struct out *o)
{
	check(c->out_bytes >= o->len + o->pinned);
	c->out_bytes -= o->len + o->pinned;
	for (uint32_t i = 0; i < o->n_pins; i++)
		pin_release(&o->pins[i]);
	o->len = o->pinned = 0;
	o->n_pins = 0;
	if (o->cap > OUT_KEEP_BYTES) {
		free(o->p);
		o->p = NULL;
		o->cap = 0;
	}
}

void rpc_out_fini(struct rpc_conn *c, struct out *o)
{
	rpc_out_clear(c, o);
	free(o->p);
	free(o->pins);
	*o = (struct out){ 0 };
}

void rpc_out_wake(struct rpc_conn *c)
{
	if (c->writer_waits) {
		c->writer_waits = false;
		waitq_wake_one(&c->writer_q);
	}
}

/* ---- the writer ---- */
/* Where in `sending` the next vector begins. */
struct place { size_t at; uint32_t pin; };

static size_t min(size_t a, size_t b) { return a < b ? a : b; }

/* Gathers up to SEND_BYTES_MAX from the place on, which it moves; stops before descriptors. */
static int gather(struct out *o, struct place *pl, struct iovec *iov, size_t *ret_bytes)
{
	size_t bytes = 0;
	int n = 0;

	while (n < SEND_PARTS_MAX && bytes < SEND_BYTES_MAX) {
		struct pin *pin = pl->pin < o->n_pins ? &o->pins[pl->pin] : NULL;
		size_t end = pin != NULL ? pin->at : o->len;
		const uint8_t *p = o->p + pl->at;
		size_t len = min(end - pl->at, SEND_BYTES_MAX - bytes);

		if (len > 0) {
			pl->at += len;
		} else if (pin == NULL || pin->n_shm > 0) {
			break;
		} else {
			p = pin->p + pin->sent;
			len = min(pin->len - pin->sent, SEND_BYTES_MAX - bytes);
			pin->sent += len;
			if (pin->sent == pin->len)
				pl->pin++;
		}
		if (len > 0)
			iov[n++] = (struct iovec){ (void *)(uintptr_t)p, len };
		bytes += len;
	}
	*ret_bytes = bytes;
	return n;
}

/* One call of the door.  The bytes of a pin with descriptors go alone. */
static int send_some(struct rpc_conn *c, struct place *pl)
{
	struct iovec iov[SEND_PARTS_MAX];
	struct out *o = &c->sending;
	uint64_t until_ns = loop_now_ns(c->loop) + c->limits.send_ns;
	size_t bytes;
	int n, rc;

	c->send_first = pl->pin;
	n = gather(o, pl, iov, &bytes);
	if (n > 0) {
		c->send_end = pl->pin + 1;
		c->in_send = true;
		rc = sys_send(c->stream, iov, n, until_ns);
	} else {
		struct pin *pin = &o->pins[pl->pin];

		check(pl->pin < o->n_pins);
		c->send_end = ++pl->pin;
		c->in_send = true;
		bytes = pin->len;
		rc = sys_send_shm(c->stream, pin->p, pin->len, pin->shm, pin->n_shm, until_ns);
	}
	c->in_send = false;
	c->n_vectors++;
	if (rc == E_CLOSED && c->server == NULL && c->state.now == CONN_HELLO)
		return rc; /* it may have said why: the reader finds that, or the end */
	if (rc < 0)
		return rpc_conn_fail(c, rc, "%s: %s while sending", c->name, err_text(rc));
	for (uint32_t i = c->send_first; i < pl->pin; i++)
		pin_release(&o->pins[i]);
	c->counts->sends++;
	c->counts->out_bytes += bytes;
	return 0;
}

static int send_all(struct rpc_conn *c)
{
	struct out *o = &c->sending;
	struct place pl = { 0, 0 };
	int rc = 0;

	while (rc == 0 && (pl.at < o->len || pl.pin < o->n_pins)) {
		rc = send_some(c, &pl);
		waitq_wake_all(&c->sent_q);
	}
	rpc_out_clear(c, o);
	if (c->out_bytes < c->limits.out_bytes)
		waitq_wake_all(&c->room_q);
	return rc;
}

/* Sends until the connection is over, or closing and nothing is left. */
static void send_always(struct rpc_conn *c)
{
	struct out idle;

	for (;;) {
		while (out_empty(&c->ready)) {
			if (!conn_talks(c))
				return;
			c->writer_waits = true;
			if (waitq_wait(&c->writer_q, FOREVER) < 0)
				return; /* cancelled: the connection is over */
		}
		if (fiber_late() < 0)
			return;
		idle = c->sending;
		c->sending = c->ready;
		c->ready = idle;
		if (send_all(c) < 0)
			return;
	}
}

int rpc_writer_run(void *arg)
{
	struct rpc_conn *c = arg;

	fiber_note(0, "rpc: output");
	send_always(c);
	c->writer_ended = true;
	rpc_out_clear(c, &c->ready); /* somebody may wait for what is pinned there */
	waitq_wake_all(&c->sent_q);
	return 0;
}

/* ---- giving up ---- */
/* From here on the pin's bytes are ours.  False without memory. */
static bool own_pin(struct pin *pin)
{
	uint8_t *copy = malloc(pin->len);

	if (copy == NULL)
		return false;
	pin->p = memcpy(copy, pin->p, pin->len);
	pin->call->pinned = false;
	pin->call = NULL;
	pin->release = free;
	pin->arg = copy;
	return true;
}

static bool own_pins(struct out *o, const struct rpc_call *call)
{
	for (uint32_t i = 0; i < o->n_pins; i++)
		if (o->pins[i].call == call && !own_pin(&o->pins[i]))
			return false;
	return true;
}

void rpc_out_let_go(struct rpc_conn *c, struct rpc_call *call)
{
	uint32_t end = c->send_end < c->sending.n_pins ? c->send_end : c->sending.n_pins;
	uint64_t vector = c->n_vectors;
	bool moving = false;

	check(call->pinned);
	for (uint32_t i = c->send_first; c->in_send && i < end; i++)
		moving |= c->sending.pins[i].call == call;
	if (!own_pins(&c->ready, call) || !own_pins(&c->sending, call))
		rpc_conn_fail(c, E_NOMEM, "%s: no memory to give up a call", c->name);
	fiber_shield(FOREVER); /* ends: after a failure the door lets go of everything */
	if (moving) /* the door reads the caller's memory until this vector has gone */
		waitq_wait(&c->sent_q, loop_now_ns(c->loop) + LET_GO_NS);
	if (moving && c->n_vectors == vector)
		rpc_conn_fail(c, E_TIMEOUT, "%s: a call was given up inside its data", c->name);
	while ((moving && c->n_vectors == vector) || call->pinned)
		waitq_wait(&c->sent_q, FOREVER);
	fiber_unshield();
}
