import pymysql

pymysql.version_info = (2, 2, 7, "final", 0)  # Django asks for that of mysqlclient.
pymysql.install_as_MySQLdb()
