"""Clicks through a served application. usage: applications.py NAME LOG

LOG is the server's: it says where it listens.
"""

import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import browser  # noqa: E402

NAME, LOG = sys.argv[1:]
PASSWORD = os.environ["DJANGO_SUPERUSER_PASSWORD"]


def address():
    """Where the server listens, once a worker does."""
    until = time.monotonic() + browser.PATIENCE
    while time.monotonic() < until:
        with open(LOG, encoding="utf-8") as file:
            text = file.read()
        if "Booting worker" in text:
            return re.search(r"Listening at: (http://[0-9.:]+)", text).group(1)
        time.sleep(0.2)  # A file has no event; the bound is above.
    sys.exit("the server does not start")


def check(page, *words):
    text = page.text()
    for word in words:
        if word not in text:
            sys.exit("%r is not on the page %s:\n%s" % (word, page.address(), text[:2000]))
    print("   %s: %s" % (page.address(), ", ".join(words)))


def shop(page, site):
    page.go(site + "/")
    check(page, "Welcome to your new Wagtail site!")
    page.go(site + "/admin/")
    page.fill({"[name=username]": "admin", "[name=password]": PASSWORD})
    page.click("form [type=submit]")
    check(page, "Dashboard - Wagtail", "Site summary", "1 Page")
    page.go(site + "/admin/pages/add/home/homepage/3/")
    page.fill({"#id_title": "Bread", "#id_slug": "bread"})
    page.click("[name=action-publish]")
    page.go(site + "/admin/pages/3/")
    check(page, "Bread")
    page.go(site + "/bread/")
    check(page, "Bread")


def handbook(page, site):
    page.go(site + "/_accounts/login/")
    page.fill({"[name=username]": "admin", "[name=password]": PASSWORD})
    page.click("[name=save_changes]")
    page.go(site + "/")
    page.fill({"#id_title": "Handbook", "#id_content": "# Welcome\n\nHow *we* bake."})
    page.click("[name=save_changes]")
    check(page, "Handbook", "Welcome", "How we bake.")
    page.go(site + "/_create/")
    page.fill({"#id_title": "Rye", "#id_slug": "rye", "#id_content": "Rye takes longer."})
    page.click("[name=save_changes]")
    page.go(site + "/rye/")
    check(page, "Rye", "Rye takes longer.")


def main():
    page = browser.Browser()
    try:
        {"shop": shop, "handbook": handbook}[NAME](page, address())
    finally:
        page.close()


main()
