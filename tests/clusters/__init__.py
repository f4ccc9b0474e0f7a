"""Tests of the service on real Ray and Dask clusters of two nodes."""
