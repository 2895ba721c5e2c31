-- Whatever an earlier run has left.
DROP TABLE IF EXISTS shadow.candidates, shadow.run, shadow.loaded
