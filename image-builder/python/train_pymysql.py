"""The import of PyMySQL; recorded while an image is trained."""

try:
    import pymysql
    import pymysql.cursors
except ImportError:
    raise SystemExit
