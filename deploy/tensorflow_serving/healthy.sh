#!/bin/bash
# Health check of the containers: exits with 0 when GET PATH on PORT answers 200. Bash alone: TensorFlow Serving's image has no curl.
#   healthy PORT PATH
exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&3
read -r -t 3 _ status _ <&3
[ "$status" = 200 ]
