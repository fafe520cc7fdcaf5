"""
Object storage: addresses of buckets and objects, and the connections to them.

`addresses` has the way in for text such as ``s3://conn_id@bucket/key``, `connecting` that for buckets. `s3` and `azure`
make the clients, from what the storage's own client knows; `ambient` connects with the credentials of the environment.
"""
