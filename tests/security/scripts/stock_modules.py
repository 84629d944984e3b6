"""Imports and lightly uses much of the standard library: everyday code, no violation."""

import contextlib
import json
import os
import sys

used = []


def uses(function):
    function()
    used.append(function.__name__)
    return function


@uses
def asyncio_loopback():
    import asyncio

    async def main():
        async def answer(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()
        server.close()
        await asyncio.to_thread(os.getpid)

    asyncio.run(main())


@uses
def multiprocessing_pool():
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, range(-5, 5))[0] == 5


@uses
def multiprocessing_queue():
    import multiprocessing

    context = multiprocessing.get_context("fork")
    queue, lock = context.Queue(), context.Lock()
    process = context.Process(target=queue.put, args=(1,))
    process.start()
    with lock:
        assert queue.get(timeout=20) == 1
    process.join()


@uses
def concurrent_futures():
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(abs, [-1])) == [1]


@uses
def threading_many():
    import threading

    for _ in range(50):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()


@uses
def ssl_context():
    import ssl

    assert ssl.create_default_context().verify_mode == ssl.CERT_REQUIRED
    ssl.get_default_verify_paths()


@uses
def sqlite3_database():
    import sqlite3

    for place in (":memory:", "/tmp/database"):
        with sqlite3.connect(place) as connection:
            connection.execute("create table t (x)")
            connection.execute("insert into t values (1)")
        connection.close()


@uses
def ctypes_libc():
    import ctypes
    import ctypes.util

    assert ctypes.CDLL(None).getpid() == os.getpid()
    ctypes.util.find_library("c")


@uses
def zoneinfo_zones():
    import zoneinfo

    zoneinfo.ZoneInfo("Europe/Berlin")
    assert "UTC" in zoneinfo.available_timezones()
    with contextlib.suppress(zoneinfo.ZoneInfoNotFoundError):
        zoneinfo.ZoneInfo("No/Such_Zone")


@uses
def locale_all():
    import locale

    locale.setlocale(locale.LC_ALL, "")
    locale.getpreferredencoding()
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, "de_DE.UTF-8")


@uses
def who_am_i():
    import getpass
    import pathlib
    import pwd

    assert getpass.getuser() == "nobody"
    assert os.path.expanduser("~") == "/tmp"
    assert os.path.expanduser("~nobody") == "/tmp"
    assert str(pathlib.Path.home()) == "/tmp"
    assert pwd.getpwuid(os.getuid()).pw_name == "nobody"


@uses
def groups():
    import grp

    assert grp.getgrgid(os.getgid()).gr_name == "nogroup"


@uses
def platform_all():
    import platform

    platform.platform()
    platform.processor()
    platform.libc_ver()
    platform.freedesktop_os_release()
    os.uname()


@uses
def archives():
    import tarfile
    import zipfile

    with open("/tmp/member", "w") as file:
        file.write("x")
    with zipfile.ZipFile("/tmp/a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write("/tmp/member", "member")
    with zipfile.ZipFile("/tmp/a.zip") as archive:
        archive.extractall("/tmp/unzipped")  # noqa: S202
    with tarfile.open("/tmp/a.tar.gz", "w:gz") as archive:
        archive.add("/tmp/member", "member")
    with tarfile.open("/tmp/a.tar.gz") as archive:
        archive.extractall("/tmp/untarred")  # noqa: S202


@uses
def compression():
    import bz2
    import gzip
    import lzma
    import zlib

    for module in (bz2, gzip, lzma, zlib):
        assert module.decompress(module.compress(b"x")) == b"x"


@uses
def temporary_files():
    import tempfile

    with (
        tempfile.NamedTemporaryFile() as file,
        tempfile.TemporaryDirectory(),
        tempfile.TemporaryFile() as other,
        tempfile.SpooledTemporaryFile() as spooled,
    ):
        for each in (file, other, spooled):
            each.write(b"x")


@uses
def shutil_all():
    import shutil

    os.makedirs("/tmp/tree/deep")
    shutil.copytree("/tmp/tree", "/tmp/copy")
    shutil.copy2("/tmp/member", "/tmp/copy/member")
    shutil.move("/tmp/copy", "/tmp/moved")
    shutil.make_archive("/tmp/made", "zip", "/tmp/moved")
    shutil.rmtree("/tmp/moved")
    shutil.disk_usage("/tmp")
    shutil.which("python3")
    shutil.get_terminal_size()


@uses
def globs():
    import glob
    import pathlib

    glob.glob("/tmp/**", recursive=True)
    list(pathlib.Path("/tmp").rglob("*"))


@uses
def identifiers():
    import uuid

    uuid.uuid1()
    uuid.uuid4()
    uuid.uuid5(uuid.NAMESPACE_DNS, "x")
    uuid.getnode()


@uses
def logging_to_file():
    import logging
    import logging.handlers

    logger = logging.getLogger("x")
    logger.addHandler(logging.handlers.RotatingFileHandler("/tmp/x.log", maxBytes=100))
    logger.addHandler(logging.handlers.MemoryHandler(10))
    logger.propagate = False
    logger.warning("x" * 200)
    logger.warning("x" * 200)


@uses
def mime_types():
    import mimetypes

    mimetypes.init()
    assert mimetypes.guess_type("x.html")[0] == "text/html"


@uses
def terminals():
    import curses
    import readline

    with contextlib.suppress(curses.error):
        curses.setupterm("xterm", 1)
    readline.get_completer()


@uses
def dbm_all():
    import dbm
    import dbm.dumb
    import shelve

    with dbm.open("/tmp/dbm", "c") as database:
        database["x"] = "y"
    with dbm.dumb.open("/tmp/dumb", "c") as database:
        database["x"] = "y"
    with shelve.open("/tmp/shelf") as shelf:
        shelf["x"] = 1


@uses
def subprocess_import():
    import subprocess

    assert subprocess.PIPE == -1


@uses
def signals():
    import signal

    signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.pause()
    os.kill(os.getpid(), 0)


@uses
def processes():
    child = os.fork()
    if child == 0:
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    os.nice(0)
    os.killpg(os.getpgid(0), 0)
    os.kill(0, 0)
    os.getloadavg()
    os.sched_getaffinity(0)


@uses
def resources():
    import resource

    resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@uses
def sockets():
    import select
    import selectors
    import socket
    import socketserver

    left, right = socket.socketpair()
    left.send(b"x")
    assert select.select([right], [], [], 5)[0] == [right]
    with selectors.DefaultSelector() as selector:
        selector.register(right, selectors.EVENT_READ)
        assert selector.select(5)
    socket.getaddrinfo("localhost", 80)
    socket.getaddrinfo("127.0.0.1", "http")
    socket.gethostbyname("localhost")
    socketserver.TCPServer(("127.0.0.1", 0), None).server_close()
    server = socket.socket(socket.AF_UNIX)
    server.bind("/tmp/socket")
    left.close(), right.close(), server.close()


@uses
def http_loopback():
    import http.server
    import threading
    import urllib.request

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=20) as answer:
        assert answer.read() == b"hello"
    thread.join()
    server.server_close()


@uses
def xml_and_friends():
    import configparser
    import csv
    import html.parser
    import tomllib
    import xml.dom.minidom
    import xml.etree.ElementTree as ElementTree
    import xml.sax

    ElementTree.fromstring("<a><b/></a>")  # noqa: S314
    xml.dom.minidom.parseString("<a/>")  # noqa: S318
    xml.sax.parseString(b"<a/>", xml.sax.ContentHandler())  # noqa: S317
    html.parser.HTMLParser().feed("<a>")
    configparser.ConfigParser().read_string("[a]\nb=1")
    tomllib.loads("a = 1")
    list(csv.reader(["a,b"]))


@uses
def messages():
    import email.message
    import email.policy
    import mailbox

    email.message.EmailMessage(policy=email.policy.SMTP)["To"] = "x@y"
    mailbox.mbox("/tmp/mbox").close()


@uses
def numbers_and_hashes():
    import decimal
    import fractions
    import hashlib
    import hmac
    import random
    import secrets
    import statistics

    for name in hashlib.algorithms_guaranteed:
        hashlib.new(name)
    hmac.new(b"k", b"m", "sha256").hexdigest()
    random.random(), secrets.token_hex(), statistics.mean([1]), fractions.Fraction(1, 3)
    decimal.Decimal(1) / 3


@uses
def times():
    import calendar
    import datetime
    import sched
    import time

    datetime.datetime.now().astimezone()
    datetime.datetime.now(datetime.UTC)
    time.strftime("%c", time.localtime())
    time.tzset()
    calendar.month(2024, 1)
    sched.scheduler().run()


@uses
def source_code():
    import ast
    import dis
    import importlib.metadata
    import importlib.resources
    import inspect
    import linecache
    import pkgutil
    import py_compile
    import runpy
    import symtable
    import tokenize

    inspect.getsource(inspect.getsource)
    inspect.getsource(uses)
    dis.Bytecode("1 + 1")
    ast.parse("x = 1")
    symtable.symtable("x", "x", "exec")
    linecache.getline(os.__file__, 1)
    list(pkgutil.iter_modules())
    list(importlib.metadata.distributions())
    importlib.resources.files("json").joinpath("__init__.py").read_text()
    with open("/tmp/module.py", "w") as file:
        file.write("x = 1\n")
    py_compile.compile("/tmp/module.py")
    runpy.run_path("/tmp/module.py")
    sys.path.insert(0, "/tmp")
    __import__("module")
    with open("/tmp/module.py", "rb") as file:
        list(tokenize.tokenize(file.readline))
    with contextlib.suppress(ImportError):
        __import__("no_such_module")


@uses
def diagnosis():
    import cProfile
    import doctest
    import faulthandler
    import gc
    import pdb
    import pstats
    import timeit
    import traceback
    import tracemalloc
    import warnings

    faulthandler.enable()
    tracemalloc.start()
    tracemalloc.stop()
    profile = cProfile.Profile()
    profile.runcall(int)
    pstats.Stats(profile)
    timeit.timeit("1", number=1)
    doctest.testmod()
    gc.collect()
    traceback.format_stack()
    warnings.simplefilter("ignore")
    pdb.Pdb(stdin=None)


@uses
def interpreters_and_memory():
    import array
    import codecs
    import collections
    import copy
    import marshal
    import mmap
    import pickle
    import struct
    import unicodedata
    import weakref

    with open("/tmp/mapped", "wb") as file:
        file.write(b"x" * 4096)
    with open("/tmp/mapped", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0] = 0
    pickle.loads(pickle.dumps(array.array("i", [1]))), marshal.dumps(1), struct.pack("i", 1)
    codecs.lookup("shift_jis"), unicodedata.name("x"), copy.deepcopy({}), collections.Counter("x")
    weakref.WeakSet()


@uses
def text_tools():
    import argparse
    import difflib
    import fnmatch
    import gettext
    import optparse
    import pprint
    import shlex
    import string
    import textwrap

    argparse.ArgumentParser().parse_args([])
    optparse.OptionParser().parse_args([])
    gettext.translation("x", fallback=True)
    (
        pprint.pformat(1),
        shlex.split("a b"),
        textwrap.fill("x"),
        string.Template("$x"),
        difflib.ndiff(["a"], ["b"]),
    )
    fnmatch.fnmatch("a", "*")


@uses
def network_clients():
    import ftplib
    import http.cookiejar
    import imaplib
    import ipaddress
    import poplib
    import smtplib
    import urllib.parse
    import urllib.robotparser
    import xmlrpc.client

    (
        ipaddress.ip_network("10.0.0.0/8"),
        urllib.parse.urlparse("http://x"),
        http.cookiejar.CookieJar(),
    )
    xmlrpc.client.dumps((1,)), urllib.robotparser.RobotFileParser()
    assert all((ftplib, imaplib, poplib, smtplib))


@uses
def state_and_coroutines():
    import selectors
    import types

    assert types.coroutine(lambda: (yield)) and selectors.DefaultSelector


@uses
def everything_else():
    import abc, base64, binascii, bisect, cmd, code, contextlib, contextvars, dataclasses  # noqa: E401, F401, I001
    import enum, errno, fcntl, fileinput, filecmp, functools, graphlib, heapq, itertools  # noqa: E401, F401
    import netrc, numbers, operator, plistlib, profile, queue, quopri, re, reprlib  # noqa: E401, F401
    import rlcompleter, site, stat, stringprep, sysconfig, syslog, termios, tty  # noqa: E401, F401


print(json.dumps({"used": used, "modules": len(sys.modules)}))
