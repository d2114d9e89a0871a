"""Collections of photographs: folders, buckets and tar shards, listed, read and decoded."""
