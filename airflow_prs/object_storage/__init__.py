"""
Object storage: addresses of buckets and objects, and the connections to them.

`addresses` has the way in for text such as ``s3://conn_id@bucket/key``, `connecting` that for buckets.
"""
