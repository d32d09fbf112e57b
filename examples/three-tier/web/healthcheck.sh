#!/bin/bash
# One request to this nginx, without installing a client for it.
exec 3<>/dev/tcp/127.0.0.1/80 || exit 1
printf 'GET /lb-health HTTP/1.0\r\n\r\n' >&3
grep -q '200 OK' <&3
