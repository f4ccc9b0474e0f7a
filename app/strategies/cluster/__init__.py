"""The strategies `ray` and `dask`: parcels of batches are computed by a cluster that runs already.

    run host                      driver, a child process        cluster
    ────────                      ───────────────────────        ───────
    OnCluster ── parcels ──>      Dask or Ray client     ──>     workers: compute(parcel)
       ^  └── watches, kills ──>       │        ^                   │
       └───────── results ─────────────┘        └───── results ─────┘

A client of an engine may hang, in compiled code, when its cluster dies. So it lives in a process of
its own, which the run host can kill at any time, and which is the only one to import the engine.
"""
