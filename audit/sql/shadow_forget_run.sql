-- The run is through: what remains of it, if anything, is the rebuilt state.
DROP TABLE shadow.run, shadow.loaded
