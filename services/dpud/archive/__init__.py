"""The archive: the database server and the data server of Astro-WISE in one service."""
