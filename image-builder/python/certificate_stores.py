
# Pyram: the machine's certificates, wherever its distribution keeps them. OpenSSL was built with
# Debian's places. The first store that exists counts; no store at all is an empty context, as with
# CPython. SSL_CERT_FILE and SSL_CERT_DIR win, as everywhere with OpenSSL.
def get_default_verify_paths():
    """Find the certificate store: (SSL_CERT_FILE, a file, SSL_CERT_DIR, a directory)"""
    def first(built_in, places, exists):
        for place in (built_in, *places):
            try:
                if exists(place):
                    return place
            except OSError:
                pass
        return built_in

    return (
        _cstr_decode_fs(lib.X509_get_default_cert_file_env()),
        first(_cstr_decode_fs(lib.X509_get_default_cert_file()), (
            '/etc/ssl/certs/ca-certificates.crt',                 # Debian, Ubuntu, Gentoo, Arch, Void
            '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',  # RHEL and its kin, Fedora
            '/etc/pki/tls/certs/ca-bundle.crt',                   # the same, older
            '/etc/ssl/ca-bundle.pem',                             # openSUSE, SLES
            '/var/lib/ca-certificates/ca-bundle.pem',             # the same, where the link leads
            '/etc/ssl/cert.pem',                                  # Alpine, OpenWrt
            '/etc/pki/tls/cert.pem',                              # RHEL's link, Mageia
            '/etc/pki/tls/cacert.pem',                            # OpenELEC
            '/etc/ca-certificates/extracted/tls-ca-bundle.pem',   # Arch
            '/etc/ssl/certs/ca-bundle.crt',                       # NixOS
        ), lambda file: os.path.isfile(file) and os.path.getsize(file) > 0),
        _cstr_decode_fs(lib.X509_get_default_cert_dir_env()),
        first(_cstr_decode_fs(lib.X509_get_default_cert_dir()), (
            '/etc/ssl/certs',                      # Debian, Alpine, openSUSE
            '/etc/pki/tls/certs',                  # RHEL
            '/var/lib/ca-certificates/openssl',    # openSUSE
            '/system/etc/security/cacerts',        # Android
        ), os.path.isdir))


def _pyram_set_default_verify_paths(self):
    if os.environ.get('SSL_CERT_FILE') or os.environ.get('SSL_CERT_DIR'):
        if not lib.SSL_CTX_set_default_verify_paths(self.ctx):
            raise ssl_error(None)
        return
    paths = get_default_verify_paths()
    for kind, path, exists in (('cafile', paths[1], os.path.isfile), ('capath', paths[3], os.path.isdir)):
        try:
            if exists(path):
                self.load_verify_locations(**{kind: path})
        except OSError:  # Of these SSLError is one. A store that can't be read is none.
            pass


_SSLContext.set_default_verify_paths = _pyram_set_default_verify_paths
