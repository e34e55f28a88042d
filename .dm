{"pid": 12248, "connection_name": "/tmp/tmp3lygqtsl/dmypy.sock"}
