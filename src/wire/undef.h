/* SPDX-License-Identifier: Apache-2.0 */
/* undef.h: forgets the row macros after each inclusion of a message table. */
#undef MSG
#undef END
#undef SUB
#undef END_SUB
#undef F
#undef B
#undef S
#undef L
