#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# usage: doc_test.sh PROGRAM PAGE: the page is what the program prints
"$1" | diff -u "$2" - && exit 0
echo "run: $1 > $2"
exit 1
