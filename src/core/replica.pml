/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of replication (README.md, "The model of replication"), small enough to be explored.
 *
 * Three replicas keep one log; a register that is changed by compare-and-swap (coord) says who is
 * primary, in which epoch, and who is in sync.  A record is a number that is given once, and PARENT
 * says behind which it was put: so it stands for the whole log up to it, as a chain hash does.
 * What is on the way is lost, doubled and reordered; a swap that got no answer happens later or
 * never; processes start again, and machines that lose their power lose records that were written.
 *
 *   follower --swap--> preparing --all hold its log--> serving --coord says another--> follower
 *       \--swap without an answer--> candidate --settled--> preparing or follower
 *
 * Each rule is asked for by HOLDS(rule); -DBREAK=rule gives what happens without it.
 *
 * (M1) one replica commits per epoch; (M2) what was committed is in the log of whoever serves
 * later; (M3) an index never has two committed records; (M4) nobody answers reads who misses what
 * was committed; (M5) what a primary appended is on MIN replicas when it is acknowledged. */
#define NONE    0
#define R1      1  /* a record is committed when every member of the set has it */
#define R1OWN   2  /* .. the primary itself among them, not in memory but written */
#define R2      3  /* only a member of the set takes over */
#define R2SWAP  4  /* .. by a swap against the revision that it read */
#define R3      5  /* who has seen a higher epoch refuses */
#define R4      6  /* a swap is settled by a revision above, not by a read; until then the union */
#define R4FIRST 7  /* who does not answer is removed before something is committed without it */
#define R5      8  /* a new primary serves when every member has its log */
#define R6      9  /* who joins holds every committed record first */
#define R6UNION 10 /* .. and is waited for from before the swap */
#define R7      11 /* a set below the minimum commits nothing new */
#define R8      12 /* a take-over begins when the lease that was given has ended */
#define R8CAND  13 /* a candidate gives no lease of the old epoch */
#define R8START 14 /* who started waits as if it had just given one */
#define R9      15 /* who may have lost records does not lead until it has caught up */
#define R10     16 /* a process that starts leads only in an epoch of its own */

#ifndef BREAK
#define BREAK NONE
#endif
#define HOLDS(rule) (BREAK != rule)

/* How far it goes. */
#ifndef EPOCHS
#define EPOCHS 3
#endif
#ifndef REVISIONS
#define REVISIONS 4
#endif
#ifndef RECORDS
#define RECORDS 2
#endif
#ifndef SLOTS
#define SLOTS 2      /* messages on the way */
#endif
#ifndef LATE
#define LATE 1       /* swaps without an answer */
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef CUTS
#define CUTS 1       /* of power */
#endif
#define N 3
#define MIN 2

#define FOLLOWER  0
#define CANDIDATE 1
#define PREPARING 2
#define SERVING   3

/* The register; set and all sets below have a bit for each replica. */
byte revision, epoch, holder, set;
byte late_expects[N], late_epoch[N], late_set[N]; /* swaps on the way: expects 0 is none */
/* Replicas, on disk: */
byte seen[N];           /* highest epoch */
byte wrote[N];          /* last record */
byte doubt;             /* who lost power and has not caught up */
/* .. and in memory: */
byte role[N], log[N], view[N], wish[N], knows[N], commit[N];
byte has[N * N];        /* by primary and member: 1 + index acknowledged in this epoch, or 0 */
bit leased[N];          /* the primary holds a lease of everyone in view and wish */
byte fresh;             /* who started, where R8START does not hold */
/* Records, and what the outside knows: */
byte made, parent[RECORDS + 1], born[RECORDS + 1], at[RECORDS + 1];
byte told;              /* the last committed record */
byte by[EPOCHS + 1];    /* 1 + who committed in it */
byte served = 1;        /* the highest epoch in which somebody serves */
/* On the way, sorted; 0 is a free slot. */
short net[SLOTS];
byte lates, crashes, cuts;

hidden byte i, r, c, n;
hidden short m;

#define BIT(x)         (1 << (x))
#define LEADS(x)       (role[x] >= PREPARING)
#define OTHERS(x)      ((view[x] | wish[x]) & ~BIT(x))
#define PEER(x, k)     (((x) + (k)) % N)
#define HAS(p, x)      has[(p) * N + (x)]
#define PACK(kind, from, to, e, x) (1 + (x) + 16 * ((e) + 16 * ((to) + 4 * ((from) + 4 * (kind)))))
#define SHIP 0
#define ACK  1
#define RECORD(m)      (((m) - 1) & 15)
#define EPOCH(m)       ((((m) - 1) >> 4) & 15)
#define TO(m)          ((((m) - 1) >> 8) & 3)
#define FROM(m)        ((((m) - 1) >> 10) & 3)
#define KIND(m)        ((((m) - 1) >> 12) & 1)
#define ROOM           (net[SLOTS - 1] == 0)
#if SLOTS == 2
#define SENT(m)        (net[0] == (m) || net[1] == (m))
#else
#define SENT(m)        (net[0] == (m) || net[1] == (m) || net[2] == (m))
#endif
#define COUNT(s)       (((s) & 1) + (((s) >> 1) & 1) + (((s) >> 2) & 1))

inline sort()
{
	i = 0;
	do
	:: i + 1 < SLOTS ->
		if
		:: net[i] < net[i + 1] ->
			m = net[i];
			net[i] = net[i + 1];
			net[i + 1] = m;
			i = 0
		:: else -> i++
		fi
	:: else -> break
	od;
	i = 0
}

inline send(msg)
{
	net[SLOTS - 1] = msg;
	sort()
}

/* Forgets what can have no effect any more, and one of two that are the same. */
inline clean()
{
	sort();
	i = 0;
	do
	:: i < SLOTS ->
		m = net[i];
		if
		:: m == 0 -> skip
		:: i > 0 && m == net[i - 1] -> net[i - 1] = 0
		:: m != 0 && EPOCH(m) < seen[TO(m)] && HOLDS(R3) -> net[i] = 0
		:: m != 0 && KIND(m) == ACK && (HAS(TO(m), FROM(m)) >= RECORD(m) ||
			(!LEADS(TO(m)) && HOLDS(R10))) -> net[i] = 0
		:: else
		fi;
		i++
	:: else -> break
	od;
	sort();
	m = 0; c = 0; n = 0; r = 0
}

/* r: the record of the log that ends with `last` which stands at index `index`. */
inline find(last, index)
{
	r = last;
	do
	:: at[r] > index -> r = parent[r]
	:: else -> break
	od
}

inline committed(p, x) /* (M1, M3, M4) */
{
	assert(by[seen[p]] == 0 || by[seen[p]] == 1 + p);
	by[seen[p]] = 1 + p;
	if
	:: at[x] > at[told] ->
		find(x, at[told]);
		assert(r == told);
		assert(seen[p] >= served); /* (M2) */
		assert(!leased[PEER(p, 1)]);
		assert(!leased[PEER(p, 2)]);
		told = x
	:: else ->
		find(told, at[x]);
		assert(r == x)
	fi
}

inline forget(x) /* what a primary knows */
{
	role[x] = FOLLOWER;
	view[x] = 0;
	wish[x] = 0;
	knows[x] = 0;
	commit[x] = 0;
	leased[x] = 0;
	HAS(x, 0) = 0;
	HAS(x, 1) = 0;
	HAS(x, 2) = 0;
	log[x] = wrote[x]
}

inline lead(x) /* as coord says */
{
	forget(x);
	seen[x] = epoch;
	role[x] = PREPARING;
	view[x] = set;
	knows[x] = revision
}

inline look(x) /* coord has moved on */
{
	if
	:: holder == x && LEADS(x) && epoch == seen[x] ->
		view[x] = set;
		wish[x] = 0;
		knows[x] = revision
	:: holder == x && role[x] == CANDIDATE && epoch > seen[x] -> lead(x)
	:: else -> forget(x)
	fi
}

/* A primary changes the set. */
inline swap(x, to)
{
	set = to;
	revision++;
	view[x] = to;
	knows[x] = revision
}

inline swap_late(x, to, waits)
{
	lates++;
	late_expects[x] = knows[x];
	late_epoch[x] = seen[x];
	late_set[x] = to;
	wish[x] = waits;
	leased[x] = 0
}

/* The set without the primary that is left out; alone over itself. */
#define HEIRS(x)       (holder == (x) -> set : set & ~BIT(holder))
#define MAY_TAKE(x)    (role[x] == FOLLOWER && revision != 0 && \
			(!HOLDS(R2) || (set & BIT(x))) && \
			(!HOLDS(R9) || !(doubt & BIT(x))) && \
			epoch < EPOCHS && revision < REVISIONS)
#define CAN_LATE(x)    (late_expects[x] == 0 && lates < LATE)
#define MAY_REMOVE(p, x) (LEADS(p) && wish[p] == 0 && (view[p] & BIT(x)))
#define MAY_ADMIT(p, x) (role[p] == SERVING && wish[p] == 0 && !(view[p] & BIT(x)) && \
			(HAS(p, x) > commit[p] || !HOLDS(R6)))
#define JOINED(x)      (view[me] | (BIT(x) * HOLDS(R6UNION))) /* (R6) */
#define FITS(p)        (knows[p] == revision && revision < REVISIONS)

#define HELD_BY(p, x, index) (!(OTHERS(p) & BIT(x)) || HAS(p, x) > (index))
#define HELD(p, index) (HELD_BY(p, PEER(p, 1), index) && HELD_BY(p, PEER(p, 2), index))
#define LENDS_TO(x, p) (!(OTHERS(p) & BIT(x)) || (seen[x] == seen[p] && \
			(role[x] == FOLLOWER || (role[x] == CANDIDATE && !HOLDS(R8CAND)))))

/* (R8) x waits until nobody relies on it any more: a lease ends no sooner than it has to, which
 * is the worst that can happen. */
inline wait_for_leases(x)
{
	if
	:: HOLDS(R8) && !(fresh & BIT(x)) ->
		if
		:: OTHERS(PEER(x, 1)) & BIT(x) -> leased[PEER(x, 1)] = 0
		:: else
		fi;
		if
		:: OTHERS(PEER(x, 2)) & BIT(x) -> leased[PEER(x, 2)] = 0
		:: else
		fi
	:: else
	fi;
	fresh = fresh & ~BIT(x)
}

inline take(x) /* (R2), answered */
{
	set = HEIRS(x) | BIT(x);
	epoch++;
	holder = x;
	revision++;
	role[x] = CANDIDATE;
	lead(x);
	clean()
}

inline receive(k, x)
{
	m = net[k];
	c = RECORD(m);
	n = 0; /* the index to acknowledge, and 1 */
	if
	:: KIND(m) == ACK ->
		if
		:: LEADS(x) && EPOCH(m) == seen[x] && HAS(x, FROM(m)) < c -> HAS(x, FROM(m)) = c
		:: else
		fi
	:: else ->
		if
		:: (EPOCH(m) < seen[x] && HOLDS(R3)) || (EPOCH(m) <= seen[x] &&
			role[x] != FOLLOWER) -> skip /* (R3): refused; (R8): of no epoch until settled */
		:: else ->
			if
			:: role[x] != FOLLOWER -> forget(x)
			:: else
			fi;
			if
			:: EPOCH(m) > seen[x] -> seen[x] = EPOCH(m)
			:: else
			fi;
			/* r: what both logs have */
			r = wrote[x];
			i = c;
			do
			:: at[r] > at[i] -> r = parent[r]
			:: at[i] > at[r] -> i = parent[i]
			:: at[r] == at[i] && r != i -> r = parent[r]; i = parent[i]
			:: else -> break
			od;
			if
			:: r == wrote[x] || born[wrote[x]] != EPOCH(m) ->
				wrote[x] = c; /* (R5): cut, and the tail appended */
				log[x] = c;
				n = 1 + at[c]
			:: else ->
				if
				:: r == c -> n = 1 + at[c] /* has come before */
				:: else -> skip /* (R3): another record of this epoch, refused */
				fi
			fi
		fi
	fi;
	r = 0;
	i = 0
}

inline answer(k, x, keep)
{
	m = net[k];
	receive(k, x);
	m = net[k];
	c = FROM(m);
	if
	:: n != 0 -> m = PACK(ACK, x, c, EPOCH(m), n)
	:: else -> m = 0
	fi;
	if
	:: !keep -> net[k] = m
	:: keep && m != 0 && !SENT(m) -> net[SLOTS - 1] = m
	:: else
	fi;
	clean()
}

#define MINE(k) (net[k] != 0 && TO(net[k]) == me)

proctype replica(byte me)
{
	do
	/* ---- a primary's work ---- */
	:: d_step { role[me] == SERVING && made < RECORDS ->
		made++;
		parent[made] = log[me];
		born[made] = seen[me];
		at[made] = at[log[me]] + 1;
		log[me] = made }
	:: d_step { wrote[me] != log[me] -> wrote[me] = log[me] }
	:: d_step { LEADS(me) && ROOM && HAS(me, PEER(me, 1)) <= at[log[me]] &&
		!SENT(PACK(SHIP, me, PEER(me, 1), seen[me], log[me])) ->
		send(PACK(SHIP, me, PEER(me, 1), seen[me], log[me])) }
	:: d_step { LEADS(me) && ROOM && HAS(me, PEER(me, 2)) <= at[log[me]] &&
		!SENT(PACK(SHIP, me, PEER(me, 2), seen[me], log[me])) ->
		send(PACK(SHIP, me, PEER(me, 2), seen[me], log[me])) }
	:: d_step { role[me] == PREPARING && wrote[me] == log[me] &&
		(HELD(me, at[log[me]]) || !HOLDS(R5)) -> /* (R5, M2) */
		find(log[me], at[told]);
		assert(r == told || seen[me] < served); /* who is late must not differ, below */
		committed(me, log[me]);
		served = (seen[me] > served -> seen[me] : served);
		commit[me] = at[log[me]];
		role[me] = SERVING;
		r = 0 }
	:: d_step { role[me] == SERVING && commit[me] < at[log[me]] && /* (R1, R7) */
		(HELD(me, commit[me] + 1) || !HOLDS(R1)) &&
		(at[wrote[me]] > commit[me] || !HOLDS(R1OWN)) &&
		(COUNT(view[me]) >= MIN || !HOLDS(R7)) ->
		commit[me]++;
		find(log[me], commit[me]);
		c = r;
		committed(me, c);
		n = 0; /* (M5) */
		i = 0;
		do
		:: i < N ->
			find(wrote[i], at[c]);
			if
			:: r == c -> n++
			:: else
			fi;
			i++
		:: else -> break
		od;
		assert(n >= MIN || cuts > 0);
		c = 0; n = 0; i = 0; r = 0 }
	:: d_step { role[me] == SERVING && !leased[me] && OTHERS(me) != 0 && /* (R8) */
		LENDS_TO(PEER(me, 1), me) && LENDS_TO(PEER(me, 2), me) ->
		leased[me] = 1;
		assert(commit[me] == at[told]) }
	/* ---- the set (R4, R6) ---- */
	:: d_step { MAY_REMOVE(me, PEER(me, 1)) && FITS(me) ->
		swap(me, view[me] & ~BIT(PEER(me, 1))) }
	:: d_step { MAY_REMOVE(me, PEER(me, 2)) && FITS(me) ->
		swap(me, view[me] & ~BIT(PEER(me, 2))) }
	:: d_step { MAY_REMOVE(me, PEER(me, 1)) && CAN_LATE(me) ->
		swap_late(me, view[me] & ~BIT(PEER(me, 1)), view[me]) }
	:: d_step { MAY_REMOVE(me, PEER(me, 2)) && CAN_LATE(me) ->
		swap_late(me, view[me] & ~BIT(PEER(me, 2)), view[me]) }
	:: d_step { !HOLDS(R4FIRST) && MAY_REMOVE(me, PEER(me, 1)) ->
		view[me] = view[me] & ~BIT(PEER(me, 1)) }
	:: d_step { MAY_ADMIT(me, PEER(me, 1)) && FITS(me) ->
		swap(me, view[me] | BIT(PEER(me, 1)));
		leased[me] = 0 }
	:: d_step { MAY_ADMIT(me, PEER(me, 2)) && FITS(me) ->
		swap(me, view[me] | BIT(PEER(me, 2)));
		leased[me] = 0 }
	:: d_step { MAY_ADMIT(me, PEER(me, 1)) && CAN_LATE(me) ->
		swap_late(me, view[me] | BIT(PEER(me, 1)), JOINED(PEER(me, 1))) }
	:: d_step { MAY_ADMIT(me, PEER(me, 2)) && CAN_LATE(me) ->
		swap_late(me, view[me] | BIT(PEER(me, 2)), JOINED(PEER(me, 2))) }
	:: d_step { wish[me] != 0 && knows[me] == revision && revision < REVISIONS && HOLDS(R4) ->
		swap(me, view[me]); /* by which the other one never happens */
		wish[me] = 0 }
	:: d_step { wish[me] != 0 && knows[me] == revision && !HOLDS(R4) -> wish[me] = 0 }
	:: d_step { (LEADS(me) || role[me] == CANDIDATE) && knows[me] != revision ->
		look(me);
		clean() }
	/* ---- taking over (R2, R8, R9) ---- */
	:: d_step { MAY_TAKE(me) -> wait_for_leases(me); take(me) }
	:: d_step { MAY_TAKE(me) && CAN_LATE(me) ->
		lates++;
		late_expects[me] = revision;
		late_epoch[me] = epoch + 1;
		late_set[me] = HEIRS(me) | BIT(me);
		knows[me] = revision;
		role[me] = CANDIDATE;
		wait_for_leases(me) }
	:: d_step { role[me] == CANDIDATE && FITS(me) && epoch < EPOCHS -> take(me) }
	/* ---- messages ---- */
	:: d_step { MINE(0) -> answer(0, me, false) }
	:: d_step { MINE(1) -> answer(1, me, false) }
	:: d_step { MINE(0) && ROOM -> answer(0, me, true) }
#if SLOTS > 2
	:: d_step { MINE(2) -> answer(2, me, false) }
	:: d_step { MINE(1) && ROOM -> answer(1, me, true) }
#endif
	/* ---- misfortune ---- */
	:: d_step { crashes < CRASHES && (role[me] != FOLLOWER || !HOLDS(R8START)) -> /* (R10) */
		crashes++;
		forget(me);
		if
		:: !HOLDS(R8START) -> fresh = fresh | BIT(me)
		:: else
		fi;
		if
		:: !HOLDS(R10) && holder == me && epoch == seen[me] ->
			role[me] = CANDIDATE;
			lead(me)
		:: else
		fi;
		clean() }
	:: d_step { cuts < CUTS && wrote[me] != 0 && (set & ~doubt & ~BIT(me)) != 0 -> /* (R9) */
		cuts++;
		wrote[me] = parent[wrote[me]];
		forget(me);
		doubt = doubt | BIT(me);
		clean() }
	:: d_step { (doubt & BIT(me)) && role[me] == FOLLOWER && LEADS(PEER(me, 1)) &&
		seen[PEER(me, 1)] >= seen[me] ->
		seen[me] = seen[PEER(me, 1)];
		wrote[me] = log[PEER(me, 1)];
		log[me] = wrote[me];
		doubt = doubt & ~BIT(me) }
	:: d_step { (doubt & BIT(me)) && role[me] == FOLLOWER && LEADS(PEER(me, 2)) &&
		seen[PEER(me, 2)] >= seen[me] ->
		seen[me] = seen[PEER(me, 2)];
		wrote[me] = log[PEER(me, 2)];
		log[me] = wrote[me];
		doubt = doubt & ~BIT(me) }
	od
}

#define LATE_LANDS(x) d_step { late_expects[x] != 0 && (late_expects[x] == revision || \
		(!HOLDS(R2SWAP) && late_epoch[x] != seen[x])) && revision < REVISIONS -> \
		if \
		:: late_epoch[x] != seen[x] || holder == x -> \
			revision++; \
			epoch = late_epoch[x]; \
			holder = x; \
			set = late_set[x] \
		:: else \
		fi; \
		late_expects[x] = 0; late_epoch[x] = 0; late_set[x] = 0 }
#define LATE_FAILS(x) d_step { late_expects[x] != 0 && late_expects[x] != revision && \
		HOLDS(R2SWAP) -> \
		late_expects[x] = 0; late_epoch[x] = 0; late_set[x] = 0 }

init
{
	atomic {
		if
		:: set = 3
		:: set = 7
		fi;
		d_step {
			revision = 1; epoch = 1; holder = 0;
			seen[0] = 1; seen[1] = 1; seen[2] = 1;
			role[0] = SERVING; view[0] = set; knows[0] = 1
		};
		run replica(0); run replica(1); run replica(2)
	};
	do
	:: LATE_LANDS(0)
	:: LATE_LANDS(1)
	:: LATE_LANDS(2)
	:: LATE_FAILS(0)
	:: LATE_FAILS(1)
	:: LATE_FAILS(2)
	:: d_step { net[0] != 0 -> net[0] = 0; sort() }
	:: d_step { net[1] != 0 -> net[1] = 0; sort() }
	od
}
