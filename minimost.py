#!/usr/bin/env python3
"""MiniMost: team chat for places without internet, in one file.

`python3 minimost.py` serves the chat to this machine, `--lan` to everybody on the network. A browser
signs up, posts and reads over HTTPS; a long poll brings what happens. Everything is kept in data/.

One line tells the whole design: change the tables and tell -> one sequence of events -> one poll -> one
state in the page -> views draw themselves. This file reads from top to bottom; each section uses only
what stands above it.

GROUND
   1. TOOLS        errors, the clock, tokens, safe files
   2. FIELDS       what a request may contain
   3. SETTINGS     one table: name, default, kind, help
   4. STORE        three databases, one writer, many readers
   5. NEWS         events, who hears them, the poll's answer
   6. IDENTITY     passwords, sessions, locks and limits
   7. AUDIT        who did what, one line for each event
   8. HTTP         strict reader, replies, routes, dispatch, files
THE CHAT
   9. ACCOUNTS     sign-up, sign-in, profiles
  10. CHANNELS     public, private and direct; members and their marks
  11. MESSAGES     post, edit, delete, page
  12. REACTIONS AND PINS  what one does with a message, saving it included
  13. FILES        upload, type by bytes, download
  14. SEARCH       words and places
  15. PREVIEWS     what links lead to, where the operator names the host
  16. PRESENCE     who is here, who types
  17. CALLS        who is in them, signals from page to page
  18. ALERTS       take over every open page, and who has seen it
  19. LIVE         the snapshot and the poll
  20. ADMIN        settings, people, invitations, bots, hooks, the audit log
THE BOX
  21. TLS          a certificate authority of one's own
  22. JOINING      addresses and QR codes
  23. BACKUP       everything in one zip, and back
  24. STUN         tells browsers the address they are seen from
  25. MDNS         a name of its own on the network
  26. JANITOR      what may be deleted, how full it is, stopping
  27. EXPORT       a channel as one file
  28. SERVER       sockets, the lot, the crew, start and stop
  29. COMMANDS     their table; serve, routes, settings
  30. CONTROL      commands that a running server carries out
  31. DOCTOR       what may be wrong, and what to do
  32. DEMO         a believable crew, two thousand messages, pictures drawn in code
  33. BENCH        how fast it is here
  34. COMMAND LINE where it all begins
"""
import argparse
import array
import base64
import bisect
import collections
import contextlib
import csv
import datetime
import email.utils
import errno
import functools
import gzip
import hashlib
import heapq
import hmac
import html.parser
import http.client
import http.server
import inspect
import io
import ipaddress
import itertools
import json
import math
import multiprocessing
import os
import plistlib
import queue
import random
import re
import selectors
import shutil
import signal
import socket
import socketserver
import sqlite3
import ssl
import stat
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unicodedata
import urllib.parse
import uuid
import zipfile
import zlib

try:
    import ctypes
except ImportError:              # a Python without it
    ctypes = None
try:
    import fcntl
except ImportError:              # Windows
    fcntl = None
    import msvcrt
try:
    import resource
except ImportError:              # Windows
    resource = None

VERSION = '1.0'
HERE = os.path.dirname(os.path.abspath(__file__))


# ======================================================================
# GROUND
# ======================================================================

# ---- 1. TOOLS --------------------------------------------------------

class Trouble(Exception):
    """The program cannot do what it was asked to; the text is the one line that a person needs."""

    status = 1                   # with which the program ends


class WrongUsage(Trouble):
    """The command line asks for something that cannot be."""

    status = 2


class Refusal(Exception):
    """A request is answered with an error; raised anywhere below the dispatch."""

    def __init__(self, status, code, words, field=None, headers=()):
        Exception.__init__(self, words)
        self.status, self.code, self.words, self.field, self.headers = status, code, words, field, headers


def not_found():
    return Refusal(404, 'not_found', 'It does not exist, or it is not yours to see.')


def signed_out():
    return Refusal(401, 'sign_in', 'Sign in first.')


def forbidden(words='You may not do that here.'):
    return Refusal(403, 'forbidden', words)


def try_later(status, code, words, seconds):
    return Refusal(status, code, words, headers=[('Retry-After', str(max(1, math.ceil(seconds))))])


def report():
    """Print the trace of an error; a terminal or a log that cannot take it must not make things worse."""
    with contextlib.suppress(OSError, ValueError):
        traceback.print_exc()


def say(text):
    """Print a line for the operator, as report() does: where it cannot be taken, the thread that says it goes on."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr)


class Clock:
    """The time of day for people to read, and a steady one for deadlines."""

    def now(self):
        """Milliseconds since the epoch."""
        return int(time.time() * 1000)

    def steady(self):
        """Seconds that never jump."""
        return time.monotonic()


JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(',', ':'))


def encode(value):
    """A value as compact JSON bytes."""
    return JSON.encode(value).encode('utf-8')


def token(random_bytes, length=24):
    """A random URL-safe text made of so many bytes."""
    return base64.urlsafe_b64encode(random_bytes(length)).decode('ascii').rstrip('=')


def digest(text):
    return hashlib.sha256(text.encode('utf-8')).digest()


def save(path, data, mode=0o600):
    """Write a whole file so that a crash leaves the old one or the new one, never a part."""
    folder = os.path.dirname(os.path.abspath(path))
    temporary = '%s.%d.part' % (path, threading.get_ident())
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    with open_private(temporary, mode) as file:
        file.write(data)
        sync_file(file)
    replace(temporary, path)
    sync_folder(folder)


def unlink(path):
    """Windows refuses while somebody reads the file; the next start sweeps it away."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def open_private(path, mode=0o600):
    """Create a file with its final mode, so that nobody else can read it for an instant."""
    return open(path, 'xb', opener=lambda name, flags: os.open(name, flags, mode))


def sync_file(file):
    """Bring what was written to an open file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def replace(source, target):
    """Rename over an existing file; Windows refuses for moments while a scanner holds it."""
    for pause in (0.05, 0.1, 0.2, 0.4):
        try:
            return os.replace(source, target)
        except PermissionError:
            time.sleep(pause)
    os.replace(source, target)


def sync_folder(folder):
    """Make renames in a folder last; Windows has no such call and does not need it."""
    if os.name == 'nt':
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_lasting_folder(folder):
    """Make a folder, and those above it, for oneself alone, so that a power cut does not take it away with all that is in it."""
    parent = os.path.dirname(os.path.abspath(folder))
    if not os.path.isdir(folder):
        make_lasting_folder(parent)
        os.mkdir(folder, 0o700)
        sync_folder(parent)


def read_json_object(path):
    with open(path, encoding='utf-8-sig') as file:
        value = json.load(file)
    if not isinstance(value, dict):
        raise ValueError('not a JSON object')
    return value


class FolderLock:
    """Held by the one process that may write to a data folder."""

    def __init__(self, folder):
        self.path = os.path.join(folder, 'lock')
        self.file = open(self.path, 'a+b')
        try:
            self._take()
        except OSError:
            self.file.close()
            raise Trouble('Another MiniMost is already running on %s.' % folder)

    def _take(self):
        if fcntl:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            self.file.seek(0)
            msvcrt.locking(self.file.fileno(), msvcrt.LK_NBLCK, 1)

    def release(self):
        """Let go. Unlinked while held, so that nobody locks a file about to vanish; Windows only closes."""
        if fcntl:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
        self.file.close()


def make_queue():
    """The quickest first-in-first-out queue this Python has."""
    return getattr(queue, 'SimpleQueue', queue.Queue)()


class Core:
    """One core for the threads that take turns on the interpreter's lock.

    Spread over several cores they wake each other across them at every turn, which costs two thirds of what
    they get done. Threads that mostly work outside the lock leave. Only Linux can be told.
    """

    def __init__(self, process_id=None):
        self.all = os.sched_getaffinity(0) if hasattr(os, 'sched_getaffinity') else ()
        self.one = {sorted(self.all)[(process_id or os.getpid()) % len(self.all)]} if self.all else ()

    def stay(self):
        self._move(self.one)

    def leave(self):
        self._move(self.all)

    def avoid(self):
        """Leave the core to others, where there is another one."""
        self._move(self.all - self.one if len(self.all) > 1 else ())

    @staticmethod
    def _move(cores):
        if cores:
            with contextlib.suppress(OSError):       # forbidden in some containers
                os.sched_setaffinity(0, cores)


# ---- 2. FIELDS -------------------------------------------------------

LARGEST = 2 ** 53 - 1            # the largest whole number that JavaScript keeps exact (ECMA-262, Number.MAX_SAFE_INTEGER)
UNSPEAKABLE = re.compile('[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]')
REQUIRED = object()


class Field:
    """What one value of a request may be: read() returns it or raises ValueError with the rest of a sentence."""

    words = 'anything'

    def read(self, value):
        raise NotImplementedError

    def read_text(self, text):
        """Read a value that came in a query string."""
        return self.read(text)


class Text(Field):
    """A text of low to high code points without control characters, but for line breaks and tabs."""

    def __init__(self, low, high):
        self.low, self.high = low, high
        self.words = 'text, %d to %d characters' % (low, high)

    def read(self, value):
        if not isinstance(value, str):
            raise ValueError('must be a text')
        if not self.low <= len(value) <= self.high:
            raise ValueError('must have %d to %d characters' % (self.low, self.high))
        if UNSPEAKABLE.search(value):
            raise ValueError('holds characters that are not text')
        return value


class Line(Text):
    """A text on one line, without white space around it."""

    def read(self, value):
        value = Text.read(self, value.strip() if isinstance(value, str) else value)
        if '\n' in value or '\t' in value:
            raise ValueError('must be one line')
        return value


class Match(Field):
    """A text that a regular expression matches whole; `words` says to a person what that is."""

    def __init__(self, pattern, words):
        self.pattern, self.words = re.compile(pattern), words

    def read(self, value):
        if not isinstance(value, str) or not self.pattern.fullmatch(value):
            raise ValueError('must be ' + self.words)
        return value


class Whole(Field):
    """A whole number from low to high."""

    def __init__(self, low, high=LARGEST):
        self.low, self.high = low, high
        self.words = 'whole number' if high == LARGEST else 'whole number, %d to %d' % (low, high)

    def read(self, value):
        if type(value) is not int or not self.low <= value <= self.high:
            raise ValueError('must be a whole number from %d to %d' % (self.low, self.high))
        return value

    def read_text(self, text):
        if not re.fullmatch('[0-9]{1,16}', text):
            raise ValueError('must be a whole number')
        return self.read(int(text))


class OneOf(Field):
    """One of a few words."""

    def __init__(self, *choices):
        self.choices = choices
        self.words = ' or '.join('"%s"' % choice for choice in choices)

    def read(self, value):
        if value not in self.choices:
            raise ValueError('must be one of: ' + ', '.join(self.choices))
        return value


class Truth(Field):
    """true or false."""

    words = 'true or false'

    def read(self, value):
        if type(value) is not bool:
            raise ValueError('must be true or false')
        return value

    def read_text(self, text):
        return self.read({'true': True, 'false': False}.get(text))


class ListOf(Field):
    """A list of at most so many values of one field, none twice."""

    def __init__(self, field, most):
        self.field, self.most = field, most
        self.words = 'list of at most %d: %s' % (most, field.words)

    def read(self, value):
        if not isinstance(value, list) or len(value) > self.most:
            raise ValueError('must be a list of at most %d' % self.most)
        values = [self.field.read(one) for one in value]
        if len(set(values)) != len(values):
            raise ValueError('names something twice')
        return values


class Record(Field):
    """An object whose values are fields, all of them needed."""

    def __init__(self, **fields):
        self.fields = fields
        self.words = 'object of ' + ', '.join(sorted(fields))

    def read(self, value):
        if not isinstance(value, dict) or set(value) != set(self.fields):
            raise ValueError('must be an object of ' + ', '.join(sorted(self.fields)))
        return {name: field.read(value[name]) for name, field in self.fields.items()}


class Maybe(Field):
    """A value of a field, or null."""

    def __init__(self, field):
        self.field = field
        self.words = field.words + ', or null'

    def read(self, value):
        return None if value is None else self.field.read(value)


class Anything(Field):
    """Any JSON value that takes at most so many bytes."""

    def __init__(self, most):
        self.most = most
        self.words = 'anything of at most %d bytes' % most

    def read(self, value):
        try:
            size = len(encode(value))
        except (ValueError, RecursionError):
            raise ValueError('holds what cannot be kept')
        if size > self.most:
            raise ValueError('must take at most %d bytes' % self.most)
        return value


class SmallObject(Anything):
    """Any JSON object that takes at most so many bytes."""

    def __init__(self, most):
        Anything.__init__(self, most)
        self.words = 'object of at most %d bytes' % most

    def read(self, value):
        if not isinstance(value, dict):
            raise ValueError('must be an object')
        return Anything.read(self, value)


Id = Whole(1)
ClientId = Match('[A-Za-z0-9_-]{8,64}', '8 to 64 letters, digits, dashes or underscores')
ChannelName = Match(r'[^\W_][\w.-]{0,39}', '1 to 40 letters, digits, dots, dashes or underscores, '
                                           'beginning with a letter or digit')


def declared_fields(function, skip):
    """The fields that a handler's signature declares, after so many leading parameters.

    Returns: {name in JSON: (name in Python, field, default or REQUIRED)}; a trailing underscore keeps a
    name out of the way of Python's own words, and `**values` is annotated with a table of fields.
    """
    fields = collections.OrderedDict()
    for one in list(inspect.signature(function).parameters.values())[skip:]:
        if one.kind is one.VAR_KEYWORD:
            fields.update((name, (name, field, None)) for name, field in one.annotation.items())
        else:
            fields[one.name.rstrip('_')] = one.name, one.annotation, REQUIRED if one.default is one.empty else one.default
    return fields


def read_fields(fields, given, from_text=False):
    """Check a request's values against declared fields; returns the arguments for the handler."""
    for name in given:
        if name not in fields:
            raise Refusal(400, 'unknown_field', 'There is no field named %.60s here.' % name, name)
    arguments = {}
    for name, (argument, field, default) in fields.items():
        if name in given:
            arguments[argument] = read_field(name, field, given[name], from_text)
        elif default is REQUIRED:
            raise Refusal(400, 'missing_field', 'The field %s is missing.' % name, name)
    return arguments


def read_field(name, field, value, from_text):
    try:
        return field.read_text(value) if from_text else field.read(value)
    except ValueError as error:
        raise Refusal(400, 'bad_field', 'The field %s %s.' % (name, error), name)


# ---- 3. SETTINGS -----------------------------------------------------

Setting = collections.namedtuple('Setting', 'name default kind help closed')

LIMITS = {                       # name: (how many, in how many seconds)
    'login': (60, 60),
    'signup': (60, 3600),
    'send': (240, 60),
    'change': (300, 60),
    'read': (600, 60),
    'upload': (120, 60),
    'search': (120, 60),
    'export': (10, 60),
    'typing': (120, 60),
    'signal': (1200, 60),
    'qr': (60, 60),
}


def host_address(value):
    if value == '*':
        return value
    try:
        return str(ipaddress.ip_address(Text(1, 60).read(value)))
    except ValueError:
        raise ValueError('must be an IP address of this machine, or "*" for all of them')


def addresses(value):
    try:
        return [str(ipaddress.ip_address(one)) for one in ListOf(Text(1, 60), 100).read(value)]
    except ValueError:
        raise ValueError('must be a list of IP addresses')


def host_label(value):
    if value is None:
        return None
    value = Text(1, 60).read(value).lower()
    if not re.fullmatch('[a-z0-9](?:[a-z0-9-]*[a-z0-9])?', value):
        raise ValueError('must be one word of letters, digits and dashes, as in "minimost", or null')
    return value


HOST_AND_PORT = re.compile(r'(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?\Z')


def host_names(value):
    return [one.lower() for one in ListOf(Text(1, 253), 100).read(value)]


def link_hosts(value):
    hosts = host_names(value)
    if not all(HOST_AND_PORT.match(host) for host in hosts):
        raise ValueError('must be a list of hosts, each with its port where that is not the usual one')
    return hosts


def limits_per_minute(value):
    value = SmallObject(4096).read(value)
    for name, limit in value.items():
        if name not in LIMITS or type(limit) is not int or limit < 1:
            raise ValueError('must give whole numbers to: ' + ', '.join(sorted(LIMITS)))
    return value


SETTINGS = tuple(Setting(*row) for row in (
    # name, default, kind, help, and for what protects: the value used instead of a bad one
    ('name', 'MiniMost', Line(1, 60).read, 'The name of the place, shown to everybody who opens the page.', None),
    ('host', '127.0.0.1', host_address, 'The address to listen on; "*" is every address of this machine.', '127.0.0.1'),
    ('port', 5000, Whole(0, 65535).read, 'The TCP port to listen on; 0 takes any free one.', None),
    ('mdns_name', None, host_label, 'Where it is "minimost", the network finds the server as minimost.local; null: it has no '
     'such name. Not the name of the machine itself.', None),
    ('channels', ['general', 'random'], ListOf(ChannelName, 50).read,
     'Public channels made at the first start; everybody but guests is a member.', []),
    ('registration', 'open', OneOf('open', 'invite', 'approve', 'closed').read,
     'Who may make an account: "open" is everybody, "invite" who has a code, "approve" whom an administrator then lets in, '
     '"closed" is nobody.', 'closed'),
    ('stun_port', 3478, Maybe(Whole(0, 65535)).read,
     'The UDP port on which browsers learn their address, for calls; 0 takes any free one, null is without.', None),
    ('max_upload_size_mb', 256, Whole(1, 65536).read, 'The largest file that can be shared, in megabytes.', None),
    ('max_avatar_size_mb', 5, Whole(1, 1024).read, 'The largest picture of oneself, in megabytes.', None),
    ('max_login_attempts', 5, Whole(1, 1000).read, 'Failed sign-ins after which a name is locked.', 5),
    ('lockout_duration_minutes', 15, Whole(1, 10080).read, 'How many minutes a locked name stays locked.', 15),
    ('password_min_length', 10, Whole(8, 128).read, 'The fewest characters a new password may have.', 10),
    ('session_idle_minutes', 20160, Whole(5, 576000).read, 'A session that nobody uses for so many minutes ends.', 20160),
    ('audit_log_max_size_mb', 10, Whole(1, 10240).read, 'A new audit.log is begun when it has so many megabytes.', None),
    ('audit_log_max_age_days', 30, Whole(1, 36500).read, 'A new audit.log is begun when it is so many days old.', None),
    ('audit_log_backups', 12, Whole(0, 1000).read, 'Old audit logs that are kept.', None),
    ('rate_limit_enabled', True, Truth().read, 'Whether requests are limited per user and per address.', True),
    ('rate_limits', {}, limits_per_minute, 'Other limits per minute, by name: %s.' % ', '.join(sorted(LIMITS)), {}),
    ('max_connections_per_address', 512, Whole(8, 4096).read,
     'Open connections that one address may have; this machine and trusted proxies may have more.', 512),
    ('trusted_proxies', [], addresses,
     'Addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.', []),
    ('allowed_hosts', [], host_names,
     'Further names under which browsers may reach the server.', []),
    ('link_preview_hosts', [], link_hosts,
     'Hosts, as in "wiki.local" or "wiki.local:8080", whose pages the server reads to show what a link leads to.', []),
    ('max_upload_dir_size_mb', 0, Whole(0, 10 ** 9).read,
     'What all files together may take, in megabytes; over it the heaviest user\'s oldest go. 0: no limit.', 0),
    ('max_message_db_size_mb', 0, Whole(0, 10 ** 9).read,
     'What the messages may take, in megabytes; over it the oldest of whoever has most go. 0: no limit.', 0),
    ('image_retention_days', 0, Whole(0, 36500).read, 'Images are removed after so many days. 0: never.', 0),
    ('file_retention_days', 0, Whole(0, 36500).read, 'Other files are removed after so many days. 0: never.', 0),
    ('message_retention_days', 0, Whole(0, 36500).read, 'Messages are deleted after so many days. 0: never.', 0),
    ('backup_dir', None, Maybe(Text(1, 4096)).read, 'The folder for regular backups, best on another disk; null: none.', None),
    ('backup_hours', 24, Whole(1, 8760).read, 'How many hours of service lie between two regular backups.', None),
))


# What is read at the start alone, or would lock everybody out of the page on which it was changed.
SETTINGS_OF_THE_START = ('host', 'port', 'mdns_name', 'channels', 'stun_port', 'backup_dir')


class Settings:
    """The settings in force, as attributes; `problems` says in sentences what was wrong with those given.

    A bad value gives way to its default or, where it protects, to the value that lets nobody in. Those in
    `locked` cannot be changed while the server runs.
    """

    def __init__(self, given=None, unreadable=False):
        self.locked, self._replaced = set(SETTINGS_OF_THE_START), {}
        given = given or {}
        self.problems = ['There is no setting named %s.' % name
                         for name in sorted(set(given) - {setting.name for setting in SETTINGS})]
        for setting in SETTINGS:
            setattr(self, setting.name, self._choose(setting, given, unreadable))

    def _choose(self, setting, given, unreadable):
        fallback = setting.default if setting.closed is None else setting.closed
        if setting.name not in given:
            return fallback if unreadable else setting.default
        try:
            return setting.kind(given[setting.name])
        except ValueError as error:
            self.problems.append('The setting %s %s; %s is used.' % (setting.name, error, json.dumps(fallback)))
            return fallback

    def replace(self, values):
        """Put values in force that were given while the server ran; None brings back what was before all of them."""
        for setting in SETTINGS:
            if setting.name in values and setting.name not in self.locked:
                before = self._replaced.setdefault(setting.name, getattr(self, setting.name))
                value = values[setting.name]
                setattr(self, setting.name, before if value is None else self._choose(setting, values, False))


def read_settings(path, last_good):
    """Read the settings file; an unreadable one gives way to the last good copy, else to closed doors.

    Args: the file's path, which need not exist; the path of the copy that is kept in the data folder.
    """
    try:
        given = read_json_object(path)
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError, RecursionError) as error:
        return settings_without_file(last_good, '%s cannot be read (%s)' % (path, error))
    return Settings(given)


def keep_good_settings(path, last_good):
    """Keep a copy of a settings file that can be read, for the day when it cannot."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        save(last_good, json.dumps(read_json_object(path), indent=2).encode('utf-8'))


def settings_without_file(last_good, reason):
    try:
        settings, instead = Settings(read_json_object(last_good)), 'the last good copy is used'
    except (OSError, ValueError, RecursionError):
        settings, instead = Settings(unreadable=True), 'nobody can register until it is mended'
    settings.problems.insert(0, '%s; %s.' % (reason, instead))
    return settings


def settings_file():
    """Every setting with its default: the text of settings.json."""
    return json.dumps(collections.OrderedDict((one.name, one.default) for one in SETTINGS), indent=2) + '\n'


# ---- 4. STORE --------------------------------------------------------
#
# SQLite in WAL mode is atomic per file only, so a thing and its event live in the same file, and auth.db,
# the main one, commits first. Written for SQLite 3.22: no UPSERT, no RETURNING.

OLDEST_SQLITE = (3, 22, 0)
BATCH = 256                      # jobs in one commit at most
COMPANY_SECONDS = 0 if os.name == 'nt' else 0.0002       # that busy writers are waited for; Windows sleeps far longer
CHECKPOINT_PAGES = 4000          # 16 MB of WAL before it is folded in
INCREMENTAL = 2                  # as PRAGMA auto_vacuum gives it
RESERVE = 256 * 1024             # bytes that auth.db and its WAL keep, for signing in on a full disk

DATABASES = (                    # schema name, file below the data folder, synchronous
    ('main', 'auth.db', 'FULL'),
    ('chat', 'users/messages.db', 'FULL'),
    ('presence', 'presence.db', 'OFF'),
)

MIGRATIONS = {                   # schema name: one script per version; never changed, only added to
    'main': ("""
        CREATE TABLE main.accounts (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            username TEXT NOT NULL,
            username_key TEXT NOT NULL UNIQUE,
            password TEXT NOT NULL,
            created_at INTEGER NOT NULL);
        CREATE TABLE main.sessions (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            token_hash BLOB NOT NULL UNIQUE,
            user_id INTEGER NOT NULL,
            agent TEXT NOT NULL,
            address TEXT NOT NULL,
            created_at INTEGER NOT NULL,
            active_second INTEGER NOT NULL);
        CREATE INDEX main.sessions_user ON sessions (user_id);
        CREATE TABLE main.devices (
            token_hash BLOB NOT NULL,
            user_id INTEGER NOT NULL,
            created_at INTEGER NOT NULL,
            PRIMARY KEY (token_hash, user_id)) WITHOUT ROWID;
        CREATE TABLE main.locks (
            name TEXT PRIMARY KEY,
            failures INTEGER NOT NULL,
            failed_second INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE main.service (seconds INTEGER NOT NULL);
        INSERT INTO main.service VALUES (0);
        """, """
        ALTER TABLE main.accounts ADD COLUMN arrives_as TEXT NOT NULL DEFAULT 'member';
        CREATE TABLE main.tokens (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            token_hash BLOB NOT NULL UNIQUE,
            user_id INTEGER NOT NULL,
            name TEXT NOT NULL,
            created_at INTEGER NOT NULL,
            used_second INTEGER);
        CREATE INDEX main.tokens_user ON tokens (user_id);
        CREATE TABLE main.resets (
            user_id INTEGER PRIMARY KEY,
            token_hash BLOB NOT NULL UNIQUE,
            expires_second INTEGER NOT NULL);
        CREATE TABLE main.invites (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            code_hash BLOB NOT NULL UNIQUE,
            role TEXT NOT NULL,
            channel_id INTEGER,
            uses_left INTEGER NOT NULL,
            created_by INTEGER,
            created_at INTEGER NOT NULL,
            expires_second INTEGER NOT NULL);
        CREATE TABLE main.hooks (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            token_hash BLOB NOT NULL UNIQUE,
            user_id INTEGER NOT NULL,
            channel_id INTEGER NOT NULL,
            created_by INTEGER NOT NULL,
            created_at INTEGER NOT NULL);
        """),
    'chat': ("""
        CREATE TABLE chat.meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE chat.users (
            id INTEGER PRIMARY KEY,
            username TEXT NOT NULL,
            display_name TEXT NOT NULL,
            title TEXT NOT NULL DEFAULT '',
            role TEXT NOT NULL,
            color TEXT NOT NULL,
            bio TEXT NOT NULL DEFAULT '',
            status TEXT,
            avatar TEXT,
            preferences TEXT NOT NULL DEFAULT '{}',
            active INTEGER NOT NULL DEFAULT 1,
            created_at INTEGER NOT NULL);
        CREATE TABLE chat.channels (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            name TEXT,
            name_key TEXT,
            topic TEXT NOT NULL DEFAULT '',
            posting TEXT NOT NULL DEFAULT 'all',
            direct_key TEXT UNIQUE,
            created_by INTEGER,
            created_at INTEGER NOT NULL,
            archived INTEGER NOT NULL DEFAULT 0);
        CREATE UNIQUE INDEX chat.channels_name ON channels (name_key) WHERE kind = 'public';
        CREATE TABLE chat.members (
            channel_id INTEGER NOT NULL,
            user_id INTEGER NOT NULL,
            since_message INTEGER NOT NULL DEFAULT 0,
            read_to INTEGER NOT NULL DEFAULT 0,
            notify TEXT NOT NULL DEFAULT 'all',
            hidden INTEGER NOT NULL DEFAULT 0,
            favourite INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (channel_id, user_id)) WITHOUT ROWID;
        CREATE INDEX chat.members_user ON members (user_id);
        CREATE TABLE chat.messages (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            channel_id INTEGER NOT NULL,
            user_id INTEGER NOT NULL,
            kind TEXT NOT NULL,
            data TEXT,
            client_id TEXT,
            request_hash BLOB,
            text TEXT NOT NULL,
            reply_to INTEGER,
            mentions TEXT NOT NULL DEFAULT '[]',
            attached INTEGER NOT NULL DEFAULT 0,
            created_at INTEGER NOT NULL,
            edited_at INTEGER,
            pinned_at INTEGER,
            reacted INTEGER NOT NULL DEFAULT 0,
            deleted INTEGER NOT NULL DEFAULT 0,
            UNIQUE (user_id, client_id));
        CREATE INDEX chat.messages_channel ON messages (channel_id, id);
        CREATE INDEX chat.messages_unread ON messages (channel_id, id, user_id) WHERE kind <> 'system' AND deleted = 0;
        CREATE INDEX chat.messages_pinned ON messages (channel_id) WHERE pinned_at IS NOT NULL;
        CREATE TABLE chat.reactions (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            message_id INTEGER NOT NULL,
            emoji TEXT NOT NULL,
            user_id INTEGER NOT NULL,
            UNIQUE (message_id, emoji, user_id));
        CREATE TABLE chat.saved (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            user_id INTEGER NOT NULL,
            message_id INTEGER NOT NULL,
            UNIQUE (user_id, message_id));
        CREATE TABLE chat.mentions (
            user_id INTEGER NOT NULL,
            channel_id INTEGER NOT NULL,
            message_id INTEGER NOT NULL,
            PRIMARY KEY (user_id, channel_id, message_id)) WITHOUT ROWID;
        CREATE INDEX chat.mentions_message ON mentions (message_id);
        CREATE TABLE chat.files (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            key TEXT NOT NULL UNIQUE,
            user_id INTEGER NOT NULL,
            name TEXT NOT NULL,
            type TEXT NOT NULL,
            size INTEGER NOT NULL,
            width INTEGER,
            height INTEGER,
            created_at INTEGER NOT NULL,
            created_second INTEGER NOT NULL,
            posted INTEGER NOT NULL DEFAULT 0);
        CREATE INDEX chat.files_unposted ON files (created_second) WHERE posted = 0;
        CREATE TABLE chat.attachments (
            message_id INTEGER NOT NULL,
            position INTEGER NOT NULL,
            file_id INTEGER NOT NULL,
            PRIMARY KEY (message_id, position)) WITHOUT ROWID;
        CREATE INDEX chat.attachments_file ON attachments (file_id);
        CREATE TABLE chat.events (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            at INTEGER NOT NULL,
            kind TEXT NOT NULL,
            ref INTEGER NOT NULL,
            channel_id INTEGER,
            user_id INTEGER);
        """,
             'ALTER TABLE chat.files ADD COLUMN seconds REAL;', """
        CREATE TABLE chat.previews (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            message_id INTEGER NOT NULL,
            url TEXT NOT NULL,
            title TEXT NOT NULL,
            description TEXT NOT NULL,
            site TEXT NOT NULL);
        CREATE INDEX chat.previews_message ON previews (message_id);
        ALTER TABLE chat.messages ADD COLUMN previewed INTEGER NOT NULL DEFAULT 0;
        """, """
        CREATE TABLE chat.calls (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            channel_id INTEGER NOT NULL,
            started_by INTEGER NOT NULL,
            started_at INTEGER NOT NULL,
            started_second INTEGER NOT NULL,
            ended_at INTEGER);
        CREATE UNIQUE INDEX chat.calls_going_on ON calls (channel_id) WHERE ended_at IS NULL;
        """, """
        ALTER TABLE chat.users ADD COLUMN approved INTEGER NOT NULL DEFAULT 1;
        CREATE TABLE chat.settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE chat.alerts (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            text TEXT NOT NULL,
            drill INTEGER NOT NULL,
            created_by INTEGER NOT NULL,
            created_at INTEGER NOT NULL,
            ended_at INTEGER);
        CREATE TABLE chat.acknowledged (
            alert_id INTEGER NOT NULL,
            user_id INTEGER NOT NULL,
            at INTEGER NOT NULL,
            PRIMARY KEY (alert_id, user_id)) WITHOUT ROWID;
        """,
             'ALTER TABLE chat.files ADD COLUMN removed_at INTEGER;',
             'CREATE INDEX chat.saved_message ON saved (message_id);',
             'ALTER TABLE chat.calls ADD COLUMN line_id INTEGER;'),
    'presence': ("""
        CREATE TABLE presence.seen (user_id INTEGER PRIMARY KEY, at INTEGER NOT NULL);
        CREATE TABLE presence.noted (event_id INTEGER NOT NULL);
        INSERT INTO presence.noted VALUES (0);
        """, """
        CREATE TABLE presence.undisturbed (user_id INTEGER PRIMARY KEY, until INTEGER);
        """, """
        CREATE TABLE presence.participants (
            call_id INTEGER NOT NULL,
            user_id INTEGER NOT NULL,
            device TEXT,
            session_id INTEGER,
            state TEXT NOT NULL DEFAULT 'ringing',
            invited INTEGER NOT NULL DEFAULT 0,
            answered INTEGER NOT NULL DEFAULT 0,
            muted INTEGER NOT NULL DEFAULT 0,
            camera INTEGER NOT NULL DEFAULT 0,
            sharing INTEGER NOT NULL DEFAULT 0,
            hand INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (call_id, user_id)) WITHOUT ROWID;
        CREATE INDEX presence.participants_state ON participants (state);
        """),
}


NETWORK_FILE_SYSTEMS = frozenset((       # as Linux names them: several machines may write there, and locks may lie
    'nfs', 'nfs4', 'cifs', 'smb3', 'smbfs', 'afs', 'ceph', 'glusterfs', 'lustre', 'ncpfs', 'davfs', 'fuse.sshfs', 'fuse.glusterfs',
    'fuse.davfs2', 'fuse.rclone', 'fuse.smbnetfs'))
UNC = re.compile(r'\\\\[^?.]')      # begins the path of a share on Windows


def file_system_of(folder, table='/proc/mounts'):
    """The kind of file system a folder is or will be on, as Linux names it (proc(5)); '' where that cannot be told."""
    path = os.path.realpath(folder)
    if UNC.match(path):
        return 'cifs'
    found = ('', '')
    with contextlib.suppress(OSError), open(table, encoding='utf-8', errors='surrogateescape') as mounts:
        for line in mounts:
            place, kind = line.split(' ')[1:3]
            place = re.sub(r'\\([0-7]{3})', lambda octal: chr(int(octal.group(1), 8)), place)
            if (path + '/').startswith(place.rstrip('/') + '/') and len(place) >= len(found[0]):
                found = place, kind
    return found[1]


class Damaged(Trouble):
    """A database is lost or broken, so that only a backup helps."""


class Change:
    """One job's hold on the writing connection: the only way to alter the tables, and to tell of it."""

    def __init__(self, connection, now):
        self.execute = connection.execute
        self.now = now
        self.events = []
        self.followers = []

    def insert(self, table, **values):
        """Add a row; returns its id."""
        return self.execute('INSERT INTO %s (%s) VALUES (%s)' % (
            table, ', '.join(values), ', '.join('?' * len(values))), tuple(values.values())).lastrowid

    def update(self, table, row_id, **values):
        self.execute('UPDATE %s SET %s WHERE id = ?' % (
            table, ', '.join(name + ' = ?' for name in values)), tuple(values.values()) + (row_id,))

    def tell(self, kind, ref, channel_id=None, user_id=None):
        """Record in the same transaction that something changed, and who may hear; returns the event."""
        event = Event(None, kind, ref, channel_id, user_id)
        event.id = self.execute(
            'INSERT INTO events (at, kind, ref, channel_id, user_id) VALUES (?, ?, ?, ?, ?)',
            (self.now, kind, ref, channel_id, user_id)).lastrowid
        self.events.append(event)
        return event

    def afterwards(self, function):
        """Have a function called once the change is safely on disk."""
        self.followers.append(function)


class Event:
    """A pointer to what changed; `wire` is how polls tell it, once it has been published."""

    __slots__ = ('id', 'kind', 'ref', 'channel_id', 'user_id', 'wire', 'heard_by')

    def __init__(self, event_id, kind, ref, channel_id=None, user_id=None):
        self.id, self.kind, self.ref, self.channel_id, self.user_id = event_id, kind, ref, channel_id, user_id
        self.wire = self.heard_by = None

    def __lt__(self, event_id):
        return self.id < event_id

    @property
    def thing(self):
        """What the event points at: of several tellings of one thing the last is enough."""
        return self.kind, self.ref, self.user_id


class Job:
    """A function that waits for its turn on the writing connection, and then holds what came of it."""

    __slots__ = ('function', 'change', 'result', 'error', 'done')

    def __init__(self, function):
        self.function, self.change, self.result, self.error = function, None, None, None
        self.done = threading.Lock()
        self.done.acquire()

    def wait(self):
        self.done.acquire()
        if self.error is not None:
            raise self.error
        return self.result


class BatchVoid(Exception):
    """SQLite gave up the whole transaction, the work of all the jobs in it included."""


DISK_TROUBLE = re.compile('disk|readonly|unable to open')       # as SQLite says it


def storage_refusal(error):
    """What a person hears when the disk is full or failing."""
    if 'full' in str(error):
        return Refusal(507, 'storage_full', 'The storage is full. Ask an administrator to make room.')
    if isinstance(error, OSError) or DISK_TROUBLE.search(str(error)):
        say('The storage does not answer as it should (%s).' % error)
    else:
        report()
    return try_later(503, 'storage_trouble', 'The storage does not answer as it should (%s).' % error, 5)


class Store:
    """The databases of one data folder: one thread writes, every other thread reads."""

    def __init__(self, folder, clock, core):
        self.folder, self.clock, self.core = folder, clock, core
        self._jobs = make_queue()
        self._local = threading.local()
        self._readers = []
        self._thread, self._ended, self._gate = None, False, threading.Lock()
        self.journals = {}                                  # by schema name: how SQLite keeps what a crash must not lose
        self.publish = lambda connection, events: None      # NEWS takes this place

    def open(self):
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise Trouble('MiniMost needs SQLite 3.22 or newer; this Python has %s.' % sqlite3.sqlite_version)
        os.makedirs(os.path.join(self.folder, 'users'), exist_ok=True)
        self._refuse_half_a_folder()
        drop_broken_database(os.path.join(self.folder, 'presence.db'))
        try:
            self._connection = self._connect()
        except sqlite3.OperationalError:
            self._leave_wal()
            self._connection = self._connect()
        migrate(self._connection, self.folder)
        self._reconnect()                # POSIX takes SQLite's locks away when a file is closed that was copied
        self._keep_reserve()
        self._thread = threading.Thread(target=self._run, name='writer', daemon=True)
        self._thread.start()

    def _refuse_half_a_folder(self):
        """A lost or emptied database must never look like a fresh installation; a first start may be cut short and tried again."""
        needed = [os.path.join(self.folder, file) for schema, file, synchronous in DATABASES if synchronous == 'FULL']
        lost = [path for path in needed if not os.path.exists(path) or os.path.getsize(path) == 0]
        was_used = os.path.exists(os.path.join(self.folder, 'secret.key')) or any(
            holds_tables(path) for path in needed if path not in lost)
        if lost and was_used:
            raise Damaged('%s is missing or empty.' % lost[0])

    def _leave_wal(self):
        """A database in WAL mode cannot even be read where that is impossible, unless one is alone with it."""
        for schema, file, synchronous in DATABASES:
            with contextlib.closing(sqlite3.connect(os.path.join(self.folder, file))) as connection:
                connection.execute('PRAGMA locking_mode = EXCLUSIVE')
                connection.execute('PRAGMA journal_mode = TRUNCATE')

    def _keep_reserve(self):
        """Grow auth.db and its WAL and leave the room in them free, so that people can sign in when the disk is full."""
        with contextlib.suppress(sqlite3.OperationalError):      # it is full already
            self._connection.execute('CREATE TABLE IF NOT EXISTS main.reserve AS SELECT zeroblob(%d)' % RESERVE)
            self._connection.execute('DROP TABLE main.reserve')
        self._fold_accounts()

    def _fold_accounts(self):
        """Have the WAL of auth.db written from its beginning again, where it needs no room."""
        self._connection.execute('PRAGMA main.wal_checkpoint(PASSIVE)').fetchall()

    def _connect(self, readonly=False):
        """A connection to all the databases; autocommit, so that every transaction is ours."""
        first = os.path.join(self.folder, DATABASES[0][1])
        connection = sqlite3.connect(first, isolation_level=None, check_same_thread=False, timeout=30,
                                     cached_statements=300)
        connection.row_factory = sqlite3.Row
        try:
            self._attach(connection, readonly)
        except BaseException:
            connection.close()           # or its locks would stay
            raise
        return connection

    def _attach(self, connection, readonly):
        for schema, file, synchronous in DATABASES[1:]:
            connection.execute('ATTACH ? AS ' + schema, (os.path.join(self.folder, file),))
        for schema, file, synchronous in DATABASES:
            self._prepare(connection, schema, synchronous, readonly)
        if readonly:
            connection.execute('PRAGMA query_only = ON')

    def _prepare(self, connection, schema, synchronous, readonly):
        if not readonly:
            if connection.execute('PRAGMA %s.auto_vacuum' % schema).fetchone()[0] != INCREMENTAL:
                connection.execute('PRAGMA %s.auto_vacuum = INCREMENTAL' % schema)       # which writes, even where it changes nothing
            self.journals[schema] = choose_journal(connection, schema)
            connection.execute('PRAGMA %s.synchronous = %s' % (schema, synchronous))
            connection.execute('PRAGMA %s.wal_autocheckpoint = %d' % (schema, CHECKPOINT_PAGES))
            if synchronous == 'FULL' and connection.execute('PRAGMA %s.synchronous' % schema).fetchone()[0] != 2:
                raise Trouble('SQLite does not accept synchronous=FULL here.')
        connection.execute('PRAGMA %s.cache_size = -%d' % (schema, 4000 if readonly else 16000))

    def close(self):
        """Finish all writes and fold the WAL into the databases; readers go first, for the last one folds it."""
        if self._thread:
            with self._gate:
                self._ended = True
                self._jobs.put(None)
            self._thread.join()
        for connection in self._readers:
            connection.close()
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute('PRAGMA wal_checkpoint(TRUNCATE)')
        self._connection.close()

    def reader(self):
        """This thread's own reading connection."""
        connection = getattr(self._local, 'connection', None)
        if connection is None:
            connection = self._local.connection = self._connect(readonly=True)
            self._readers.append(connection)
        return connection

    def forget_reader(self):
        """Close this thread's reading connection, as a thread does that ends."""
        connection = self._local.__dict__.pop('connection', None)
        if connection is not None:
            self._readers.remove(connection)
            connection.close()

    @contextlib.contextmanager
    def snapshot(self):
        """A reading connection that sees one moment until the end of the block."""
        connection = self.reader()
        connection.execute('BEGIN')
        try:
            yield connection
        finally:
            connection.execute('COMMIT')

    def write(self, function):
        """Run function(change) in the next commit; returns its result when that is safely on disk.

        Raises: what the function raised; Refusal 507 or 503 when the disk is full or failing.
        """
        return self.write_soon(function).wait()

    def write_soon(self, function):
        """Queue function(change) without waiting for it; returns the job."""
        job = Job(function)
        with self._gate:
            if self._ended:
                raise try_later(503, 'stopping', 'The server is stopping.', 5)
            self._jobs.put(job)
        return job

    def _run(self):
        jobs, ending = [], False
        self.core.stay()
        while not ending:
            jobs, ending = self._collect(len(jobs) > 1)
            try:
                self._commit(jobs)
            except Exception as error:           # the edge of this thread: the writer must live, and confirm nothing unsaved
                report()
                for job in jobs:
                    job.error = job.error or storage_refusal(error)
            self._follow([job for job in jobs if job.error is None])
            for job in jobs:
                job.done.release()

    def _collect(self, in_company):
        """Wait for a job and take those that came with it; the second value says whether it is time to end.

        Where the last ones came in company, more are on their way: to wait for them costs less than another commit.
        """
        jobs = [self._jobs.get()]
        if in_company:
            time.sleep(COMPANY_SECONDS)
        with contextlib.suppress(queue.Empty):
            while jobs[-1] is not None and len(jobs) < BATCH:
                jobs.append(self._jobs.get_nowait())
        ending = jobs[-1] is None
        return (jobs[:-1] if ending else jobs), ending

    def _commit(self, jobs):
        try:
            self._run_together(jobs)
        except (BatchVoid, sqlite3.Error):
            for job in jobs:
                self._run_alone(job)

    def _run_alone(self, job):
        """Give a job of a void batch its own transaction, so that it fails or succeeds for itself."""
        try:
            self._fold_accounts()
            self._run_together([job])
        except Exception as error:               # carried to the thread that waits for the job
            job.result, job.error = None, storage_refusal(error)

    def _run_together(self, jobs):
        connection = self._connection
        try:
            connection.execute('BEGIN IMMEDIATE')
            for job in jobs:
                self._attempt(job)
            connection.execute('COMMIT')
        except (BatchVoid, sqlite3.Error):
            self._reconnect()
            raise

    def _attempt(self, job):
        connection = self._connection
        job.change, job.result, job.error = Change(connection, self.clock.now()), None, None
        connection.execute('SAVEPOINT job')
        try:
            job.result = job.function(job.change)
        except Exception as error:           # carried to the thread that waits for the job
            if not connection.in_transaction:
                raise BatchVoid(str(error))
            connection.execute('ROLLBACK TO job')
            job.error = storage_refusal(error) if isinstance(error, sqlite3.OperationalError) else error
        connection.execute('RELEASE job')

    def _reconnect(self):
        """After a failed commit only a new connection is known to hold nothing half-done."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        self._connection = self._connect()

    def _follow(self, jobs):
        """Tell the news and do what was to follow the commit; nothing here can undo or repeat what is on disk."""
        for follower in [follower for job in jobs for follower in job.change.followers]:
            self._call(follower)
        events = [event for job in jobs for event in job.change.events]
        if events:
            self._call(functools.partial(self.publish, self._connection, events))

    @staticmethod
    def _call(function):
        try:
            function()
        except Exception:                        # the edge of this thread: what is committed stays so
            report()


def choose_journal(connection, schema):
    """Write ahead where the file system can; TRUNCATE is as safe, and slower. Returns the one in use."""
    for journal in ('WAL', 'TRUNCATE'):
        found = connection.execute('PRAGMA %s.journal_mode = %s' % (schema, journal)).fetchone()[0]
        if found == journal.lower():
            break
    return found


def holds_tables(path):
    """Whether a database has ever been used; one that cannot be read has."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return connection.execute('SELECT count(*) FROM sqlite_master').fetchone()[0] > 0
    except sqlite3.Error:
        return True


def drop_broken_database(path):
    """Remove a database that holds nothing that is missed, when it is broken; it is then made anew."""
    if not os.path.exists(path):
        return
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            broken = connection.execute('PRAGMA quick_check').fetchone()[0] != 'ok'
    except sqlite3.DatabaseError:
        broken = True
    for end in ('', '-wal', '-shm') if broken else ():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + end)


def migrate(connection, folder):
    """Bring every database to the newest version, each in one transaction, with a copy of the old one kept."""
    for schema, file, synchronous in DATABASES:
        version = connection.execute('PRAGMA %s.user_version' % schema).fetchone()[0]
        scripts = MIGRATIONS[schema]
        if version > len(scripts):
            raise Trouble('%s was written by a newer MiniMost (version %d, this one knows %d).' % (
                file, version, len(scripts)))
        if 0 < version < len(scripts):
            keep_copy(connection, schema, folder, file, version)
        for number, script in enumerate(scripts[version:], version + 1):
            connection.executescript('BEGIN IMMEDIATE; %s PRAGMA %s.user_version = %d; COMMIT;' % (
                script, schema, number))


def keep_copy(connection, schema, folder, file, version):
    connection.execute('PRAGMA %s.wal_checkpoint(TRUNCATE)' % schema)
    backups = os.path.join(folder, 'backups')
    os.makedirs(backups, exist_ok=True)
    with open(os.path.join(folder, file), 'rb') as original:
        save(os.path.join(backups, '%s.before-version-%d' % (os.path.basename(file), version + 1)), original.read())


def get_meta(connection, name):
    row = connection.execute('SELECT value FROM meta WHERE name = ?', (name,)).fetchone()
    return row and row['value']


def set_meta(change, name, value):
    change.execute('INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)', (name, value))


# ---- 5. NEWS ---------------------------------------------------------
#
# A lasting event is a row in the events table; after the commit it is rendered once, as the thing is now, and
# kept in memory for the polls. A passing event lives in memory alone, under numbers of its own.

MOST_IN_RING = 16384             # lasting events kept rendered in memory
MOST_BYTES_IN_RING = 2 ** 26
MOST_PASSING = 4096              # passing events kept in memory
MOST_BEHIND = 2000               # events that the lot looks through for one poll; who is farther behind asks the table
MOST_EVENTS, MOST_BYTES_IN_ANSWER = 500, 2 ** 22
MOST_SHARED = 256                # answers kept for others who hear the same
EVENTS_KEPT = 50000              # rows kept in the events table

CURSOR = re.compile(r'([\w-]+)\.(\d{1,16})\.([\w-]+)\.(\d{1,16})', re.ASCII)

SHOWS = collections.OrderedDict()    # kind of event: Show

Show = collections.namedtuple('Show', 'kind wire audience render moves_members')
Roll = collections.namedtuple('Roll', 'public since latest_since')
Cursor = collections.namedtuple('Cursor', 'epoch event boot passing')


def show(kind, audience, wire=None, moves_members=False):
    """Declare a kind of lasting event: who may hear it, and the function(app, db, event) that makes its value.

    Args: audience(news, db, event) gives a container of user ids; wire is the kind as the page sees it;
    moves_members says that the event may change who belongs to its channel.
    """
    def register(render):
        SHOWS[kind] = Show(kind, wire or kind, audience, render, moves_members)
        return render
    return register


class Those:
    """The user ids of which something is true at the moment of asking: rights may go while news waits to be heard."""

    def __init__(self, is_one):
        self.is_one = is_one

    def __contains__(self, user_id):
        return self.is_one(user_id)


EVERYBODY = Those(lambda user_id: True)


def everybody(news, db, event):
    return EVERYBODY


def one_user(news, db, event):
    return (event.user_id,)


def members(news, db, event):
    return news.roll(db, event.channel_id).since


def finders(news, db, event):
    """Those who can know of the channel: its members, and of a public one everybody but guests."""
    roll = news.roll(db, event.channel_id)
    if not roll.public:
        return roll.since
    return Those(lambda user_id: user_id in roll.since or not news.has_role(user_id, 'guest'))


def readers(news, db, event):
    """The members who may see the message: not those who came later without the past."""
    roll = news.roll(db, event.channel_id)
    if roll.latest_since < event.ref:
        return roll.since
    return {user_id for user_id, since in roll.since.items() if since < event.ref}


def one_member(news, db, event):
    return {event.user_id} & set(news.roll(db, event.channel_id).since)


def small_channel(news, db, event):
    """The members, where there are few enough to tell them of each other's reading."""
    roll = news.roll(db, event.channel_id)
    return roll.since if len(roll.since) <= 50 else ()


class Passing:
    """A passing event: rendered, heard by whom, never stored."""

    __slots__ = ('number', 'wire', 'heard_by')

    def __init__(self, number, rendered, heard_by):
        self.number, self.wire, self.heard_by = number, rendered, heard_by

    def __lt__(self, number):
        return self.number < number


class Overtaken(Exception):
    """The events after a cursor are no longer in memory."""


class Listener:
    """Somebody who waits for news from a cursor on."""

    __slots__ = ('session', 'cursor', 'deadline')

    def __init__(self, session, cursor, deadline):
        self.session, self.cursor, self.deadline = session, cursor, deadline

    def answer(self, app):
        """What there is to hear as JSON bytes, or None; raises Overtaken when memory does not reach back so far."""
        return app.news.answer(app.store.reader(), self)

    def quiet(self, app):
        """The answer when nothing happened for as long as one would wait."""
        return encode({'cursor': app.news.cursor(self.cursor.event, self.cursor.passing), 'events': []})

    def leave(self, app):
        """Called once it waits no more, whether it was answered or has gone."""


def wire(kind, value):
    """An event as polls tell it."""
    return b'{"kind":"%s","value":%s}' % (kind.encode('ascii'), encode(value))


def value_of(event):
    """The JSON bytes of the thing that a published event shows."""
    return event.wire.partition(b'"value":')[2][:-1]


class News:
    """The events of one server and the answers to its polls."""

    def __init__(self, app):
        self.app, self.boot = app, token(app.random_bytes, 6)
        self.epoch, self.last = None, 0
        self.passing_last = 0
        self.greetings = []              # functions(user id) that give the passing state anew to one from another boot
        self.on_news = lambda audiences: None
        self._ring, self._floor, self._weight = [], 0, 0
        self._passing = []
        self._rolls, self._by_role = {}, {}
        self._lock = threading.Lock()
        self._answers = {}

    def open(self, store):
        """Take up the sequence where it was left; a database older than the folder has seen gets a new epoch."""
        def begin(change):
            last = last_event(change)
            noted = change.execute('SELECT event_id FROM noted').fetchone()['event_id']
            is_older = noted > last
            if is_older or get_meta(change, 'epoch') is None:
                set_meta(change, 'epoch', token(self.app.random_bytes, 6))
            change.execute('UPDATE noted SET event_id = ?', (last,))
            return get_meta(change, 'epoch'), last, is_older
        self.epoch, self.last, self.is_older = store.write(begin)
        self._floor = self.last
        store.publish = self.publish

    def note(self, change):
        """Write down how far the events have come, outside the database that a backup brings back."""
        change.execute('UPDATE noted SET event_id = ?', (last_event(change),))

    # -- telling

    def publish(self, db, events):
        """Tell what was committed; called by the writer alone, in order.

        What cannot be shown now is left to be read from the table by those who ask.
        """
        try:
            self._publish(db, events)
        except Exception:                        # passed on once nobody waits in vain
            self._forget_up_to(events[-1].id)
            self.on_news([EVERYBODY])
            raise

    def forget_told(self):
        """Let go of what was rendered: who is behind is told from the table what is still there. For the writer alone."""
        self._forget_up_to(self.last)

    def _forget_up_to(self, last):
        """Raise the floor first and the position last: who asks meanwhile never finds a gap that looks like silence."""
        self._floor = last
        self._ring, self._weight, self._answers = [], 0, {}
        self.last = last

    def _publish(self, db, events):
        """Render the events, keep them, and wake those who may hear them."""
        for event in events:
            if SHOWS[event.kind].moves_members:
                self._forget_roll(event.channel_id)
            if event.kind == 'user':
                self._forget_roles()
        rendered = {}
        for event in reversed(events):       # the last telling of a thing serves the earlier ones as well
            if event.thing not in rendered:
                rendered[event.thing] = self._render(db, event)
            event.wire = rendered[event.thing]
        self._keep([event for event in events if event.wire])
        self.last = events[-1].id
        self._answers = {}
        self.on_news([self.audience(db, event) for event in events if event.wire])

    def _render(self, db, event):
        value = SHOWS[event.kind].render(self.app, db, event)
        return None if value is None else wire(SHOWS[event.kind].wire, value)

    def _keep(self, events):
        """Add to the ring; its older half goes when it is too long or too heavy."""
        ring = self._ring
        self._weight += sum(len(event.wire) for event in events)
        if len(ring) > MOST_IN_RING or self._weight > MOST_BYTES_IN_RING and ring:
            half = len(ring) // 2
            self._floor = ring[half].id
            ring = ring[half + 1:]
            self._weight = sum(len(event.wire) for event in ring + events)
        ring.extend(events)
        self._ring = ring

    def pass_on(self, kind, value, audience):
        """Tell of something that is not kept: audience is a container of user ids."""
        self.pass_all_on(kind, [value], audience)

    def pass_all_on(self, kind, values, audience):
        """Tell of several such things at once, so that those who wait are woken once."""
        with self._lock:
            for value in values:
                number = self.passing_last + 1
                passing = self._passing if len(self._passing) < MOST_PASSING else self._passing[MOST_PASSING // 2:]
                passing.append(Passing(number, wire(kind, value), audience))
                self._passing, self.passing_last = passing, number
            self._answers = {}
        self.on_news([audience])

    # -- who hears

    def audience(self, db, event):
        """The ids of those who may hear the event at this moment."""
        if event.channel_id is None:
            return SHOWS[event.kind].audience(self, db, event)
        roll = self.roll(db, event.channel_id)
        if event.heard_by is None or event.heard_by[0] is not roll:
            event.heard_by = (roll, SHOWS[event.kind].audience(self, db, event))
        return event.heard_by[1]

    def roll(self, db, channel_id):
        """Who belongs to a channel. Read under the lock, so that what the writer drops cannot come back stale."""
        with self._lock:
            roll = self._rolls.get(channel_id)
            if roll is None:
                roll = self._rolls[channel_id] = call_roll(db, channel_id)
        return roll

    def _forget_roll(self, channel_id):
        with self._lock:
            self._rolls.pop(channel_id, None)

    def _forget_roles(self):
        with self._lock:
            self._by_role = {}

    def with_role(self, db, role):
        """The ids of those who have a role."""
        with self._lock:
            if role not in self._by_role:
                self._by_role[role] = {row['id'] for row in db.execute('SELECT id FROM users WHERE role = ?', (role,))}
            return self._by_role[role]

    def has_role(self, user_id, *roles):
        """Whether a user has one of the roles at this moment."""
        db = self.app.store.reader()
        return any(user_id in self.with_role(db, role) for role in roles)

    # -- the poll

    def cursor(self, event_id, number):
        """The cursor after a lasting and a passing event, as text."""
        return '%s.%d.%s.%d' % (self.epoch, event_id, self.boot, number)

    def read_cursor(self, db, text):
        """Returns: the cursor, or None where only a new snapshot helps."""
        match = CURSOR.fullmatch(text)
        if not match or match.group(1) != self.epoch:
            return None
        cursor = Cursor(match.group(1), int(match.group(2)), match.group(3), int(match.group(4)))
        if cursor.event > self.last and cursor.event > last_event(db):
            return None
        return cursor

    def answer(self, db, listener):
        """The poll's answer as JSON bytes from memory, or None while there is nothing to hear.

        The position is read before the events, and the floor after them: what the writer does meanwhile is told
        twice rather than never, and the position then follows the last event told.
        Raises: Overtaken when memory does not reach back to the cursor, or only with much looking.
        """
        cursor, user_id, last, ring = listener.cursor, listener.session.user_id, self.last, self._ring
        if cursor[1:] == (last, self.boot, self.passing_last):
            return None
        if cursor.event < self._floor or last - cursor.event > MOST_BEHIND:
            raise Overtaken()
        events = last_tellings([event for event in ring[bisect.bisect_left(ring, cursor.event + 1):]
                         if user_id in self.audience(db, event)])
        passing, number = self._passing_since(cursor, user_id)
        if not events and not passing and cursor.boot == self.boot:
            listener.cursor = cursor._replace(event=max(last, cursor.event), passing=number)
            return None
        if len(passing) > MOST_EVENTS:
            return self.reset_answer()
        some = as_many_as_fit(events, MOST_EVENTS - len(passing))
        if len(some) < len(events):
            last = 0
        position = max(last, cursor.event, some[-1].id if some else 0)
        return self._share((tuple([event.id for event in some]), tuple(passing), position, number), some)

    def _passing_since(self, cursor, user_id):
        """Returns: the passing events for a user, rendered, and the number up to which they go.

        One who knew another boot, or was away while some fell out of memory, hears the whole state anew.
        """
        passing = self._passing
        length = len(passing)
        number = passing[length - 1].number if length else self.passing_last
        if cursor.boot != self.boot or length and cursor.passing + 1 < passing[0].number:
            return [greeting for greet in self.greetings for greeting in greet(user_id)], number
        heard = [one for one in passing[bisect.bisect_left(passing, cursor.passing + 1, 0, length):length]
                 if one.heard_by is EVERYBODY or user_id in one.heard_by]     # quick where many come at once
        if len(heard) > MOST_EVENTS // 2:
            heard = heard[:MOST_EVENTS // 2]
            number = heard[-1].number
        return [one.wire for one in heard], number

    def _share(self, key, events):
        """Put an answer together once for all listeners who hear the same."""
        answer = self._answers.get(key)
        if answer is None:
            answer = self._compose(events, *key[1:])
            if len(self._answers) < MOST_SHARED:
                self._answers[key] = answer
        return answer

    def _compose(self, events, passing, position, number):
        return b'{"cursor":"%s","events":[%s]}' % (
            self.cursor(position, number).encode('ascii'), b','.join([event.wire for event in events] + list(passing)))

    def reset_answer(self):
        """Sends the page back to the snapshot."""
        return encode({'cursor': self.cursor(self.last, self.passing_last), 'events': [], 'reset': True})

    def answer_from_table(self, db, listener):
        """The poll's answer for one who was away for longer than memory reaches; only of what is published.

        What is the first in the table is read after the rows: none that were deleted meanwhile are passed over.
        """
        cursor, user_id, last = listener.cursor, listener.session.user_id, self.last
        passing, number = self._passing_since(cursor, user_id)
        rows = db.execute('SELECT * FROM events WHERE id > ? AND id <= ? ORDER BY id LIMIT ?',
                          (cursor.event, last, max(0, MOST_EVENTS - len(passing)))).fetchall()
        first = db.execute('SELECT min(id) AS id FROM events').fetchone()['id']
        if first is None or first > cursor.event + 1 or len(passing) >= MOST_EVENTS:
            return self.reset_answer()
        events = [Event(row['id'], row['kind'], row['ref'], row['channel_id'], row['user_id']) for row in rows]
        told = last_tellings([event for event in events if user_id in self.audience(db, event)])
        for event in told:
            event.wire = self._render(db, event) or b''
        some = as_many_as_fit(told, MOST_EVENTS)
        position = some[-1].id if len(some) < len(told) else events[-1].id if events else cursor.event
        return self._compose([event for event in some if event.wire], passing, position, number)


def as_many_as_fit(events, most):
    """The first events, at most so many and so heavy as one answer may be, but at least one."""
    weight = 0
    for number, event in enumerate(events[:most]):
        weight += len(event.wire)
        if weight > MOST_BYTES_IN_ANSWER and number:
            return events[:number]
    return events[:most]


def last_tellings(events):
    """Of several tellings of one thing only the last: an older one shows what is no more."""
    last = {event.thing: event for event in events}
    return [event for event in events if last[event.thing] is event]


def call_roll(db, channel_id):
    channel = db.execute('SELECT kind FROM channels WHERE id = ?', (channel_id,)).fetchone()
    since = {row['user_id']: row['since_message'] for row in db.execute(
        'SELECT user_id, since_message FROM members WHERE channel_id = ?', (channel_id,))}
    return Roll(channel is not None and channel['kind'] == 'public', since, max(since.values(), default=0))


def last_event(db):
    """The highest id an event ever had, also when the rows are gone."""
    row = db.execute("SELECT seq FROM chat.sqlite_sequence WHERE name = 'events'").fetchone()
    return row['seq'] if row else 0


def prune_events(change):
    change.execute('DELETE FROM events WHERE id <= ?', (last_event(change) - EVENTS_KEPT,))


# ---- 6. IDENTITY -----------------------------------------------------

HASHES_AT_ONCE, HASHES_WAITING = 2, 16
SCRYPT = (2 ** 14, 8, 1)         # N, r, p of RFC 7914: 16 MB and about 50 ms
PBKDF2_ROUNDS = 240000
SESSION_DAYS = 400
MOST_SESSIONS = 100              # of one person; the newest stay
ACTIVITY_SECONDS = 600           # how exactly the last use of a session is written down
LOCKS_KEPT = 10000
THROTTLES_KEPT = 20000

COMMON_PASSWORDS = frozenset("""
    0123456789 0987654321 1111111111 1122334455 12345678910 1234567890 123456789a 123456789q 1q2w3e4r5t 1q2w3e4r5t6y
    1qaz2wsx3edc aaaaaaaaaa abcdefghij abcd123456 administrator adminadmin asdfghjkl1 asdfghjkl; baseball123 basketball
    changeme123 charlie123 computer123 football123 helloworld iloveyou12 iloveyou123 letmein123 liverpool1 manchester
    minimost123 password01 password10 password12 password123 password1234 passwordpassword princess123 q1w2e3r4t5 qazwsxedcr
    qwerty1234 qwerty12345 qwerty123456 qwertyuiop qwertyuiop123 secret1234 starwars123 sunshine123 superman123 supersecret
    trustno1trustno1 unbelievable welcome123 welcome1234 zxcvbnm123 zxcvbnm,./ 9876543210 987654321a a123456789
    """.split())


class Turns:
    """A block that so many threads may be in at once; others wait in the order in which they came, to the most.

    A threading.Semaphore lets newcomers overtake: in a flood of sign-ins some would wait for ever.
    """

    def __init__(self, free, most_waiting):
        self._lock, self._free, self._most_waiting, self._waiting = threading.Lock(), free, most_waiting, collections.deque()

    def __enter__(self):
        with self._lock:
            if self._free:
                self._free -= 1
                return
            if len(self._waiting) >= self._most_waiting:
                raise try_later(503, 'busy', 'Many people are signing in. Trying again by itself.', 1)
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()

    def __exit__(self, *error):
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1


class Passwords:
    """Hashing of passwords, a few at a time, as texts that say how they were made."""

    def __init__(self, random_bytes):
        self.random_bytes = random_bytes
        self._turns = Turns(HASHES_AT_ONCE, HASHES_WAITING)

    def hash(self, password):
        salt = self.random_bytes(16)
        return '%s$%s$%s' % (self._method(), salt.hex(), self._derive(self._method(), password, salt).hex())

    def matches(self, password, stored):
        """Compare with a stored hash; without one (no such account, a bot) it takes the same time and fails."""
        if not stored:
            self._derive(self._method(), password, bytes(16))
            return False
        method, salt, expected = stored.split('$')
        return hmac.compare_digest(self._derive(method, password, bytes.fromhex(salt)), bytes.fromhex(expected))

    def is_weak(self, stored):
        """Whether a stored hash was made by a lesser method than this Python's best."""
        return stored.split('$')[0] != self._method()

    @staticmethod
    def _method():
        if hasattr(hashlib, 'scrypt'):
            return 'scrypt,%d,%d,%d' % SCRYPT
        return 'pbkdf2,%d' % PBKDF2_ROUNDS

    def _derive(self, method, password, salt):
        name, *numbers = method.split(',')
        numbers = [int(number) for number in numbers]
        with self._turns:
            return derive_key(name, numbers, password.encode('utf-8'), salt)


def derive_key(name, numbers, password, salt):
    """RFC 7914 scrypt, or RFC 8018 PBKDF2 with SHA-256."""
    if name == 'scrypt':
        if not hasattr(hashlib, 'scrypt'):
            raise Refusal(503, 'no_scrypt', 'This password was made by a newer Python than the server runs on now.')
        cost, block, parallel = numbers
        return hashlib.scrypt(password, salt=salt, n=cost, r=block, p=parallel, maxmem=2 ** 26, dklen=32)
    return hashlib.pbkdf2_hmac('sha256', password, salt, numbers[0], dklen=32)


def check_new_password(password, username, least, field='password'):
    if len(password) < least:
        raise Refusal(400, 'password_too_short', 'Use at least %d characters.' % least, field)
    if password.lower() in COMMON_PASSWORDS or len(set(password)) < 4:
        raise Refusal(400, 'password_too_common', 'Too many people use this password. Choose another.', field)
    if username.lower() in (password.lower(), password.lower()[::-1]):
        raise Refusal(400, 'password_is_name', 'The password must not be the name.', field)


def has_row(db, table, row_id):
    return db.execute('SELECT 1 FROM %s WHERE id = ?' % table, (row_id,)).fetchone() is not None


class Session:
    """A signed-in browser, or a program with a token: whose it is, and when it was last used, in seconds of service."""

    __slots__ = ('id', 'cookie', 'user_id', 'role', 'active_second')

    def __init__(self, session_id, cookie, user_id, role, active_second):
        self.id, self.cookie, self.user_id, self.role = session_id, cookie, user_id, role
        self.active_second = active_second


class Sessions:
    """The sessions of one server. A cookie is a random id and its HMAC by secret.key; the table has a hash of the id."""

    def __init__(self, secret, store, service, settings, random_bytes):
        self.secret, self.store, self.service, self.random_bytes = secret, store, service, random_bytes
        self.settings = settings
        self.on_end = lambda session_ids: None
        self._known, self._is_ending = {}, False
        self._lock = threading.Lock()

    @property
    def idle_seconds(self):
        return self.settings.session_idle_minutes * 60

    def begin(self, change, user_id, agent, address):
        """Open a session in a change; returns the cookie's value."""
        key = token(self.random_bytes)
        self.end(change, 'id IN (SELECT id FROM sessions WHERE user_id = ? ORDER BY id DESC LIMIT -1 OFFSET ?)',
                 user_id, MOST_SESSIONS - 1)
        change.insert('sessions', token_hash=digest(key), user_id=user_id, agent=agent[:200], address=address,
                      created_at=change.now, active_second=self.service.seconds())
        return key + '.' + self._sign(key)

    def _sign(self, key):
        mac = hmac.new(self.secret, key.encode('ascii'), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(mac).decode('ascii').rstrip('=')

    def find(self, cookie):
        """The session that a cookie opens, or None."""
        session = self._known.get(cookie) or self._look_up(cookie)
        if session is None or self.service.seconds() - session.active_second > self.idle_seconds:
            return None
        return session

    def _look_up(self, cookie):
        """Check and read a session; under the lock, so that one ended meanwhile cannot come back."""
        key, dot, signature = cookie.partition('.')
        if not re.fullmatch('[A-Za-z0-9_-]{32}', key) or not hmac.compare_digest(
                signature.encode('utf-8'), self._sign(key).encode('ascii')):
            return None
        key = digest(key)
        with self._lock:
            row = self.store.reader().execute(
                'SELECT sessions.*, users.role FROM sessions JOIN users ON users.id = sessions.user_id '
                'WHERE token_hash = ? AND users.active', (key,)).fetchone()
            if row is None:
                return None
            if len(self._known) > 10000:
                self._known.clear()
            session = self._known[cookie] = Session(row['id'], cookie, row['user_id'], row['role'], row['active_second'])
            return session

    def use(self, session):
        """Note that a person did something, now and then on disk as well."""
        second = self.service.seconds()
        if second - session.active_second < min(ACTIVITY_SECONDS, self.idle_seconds // 10):
            return
        session.active_second = second
        self.store.write_soon(lambda change: change.update('sessions', session.id, active_second=second))

    def end(self, change, where, *values):
        """Revoke the sessions that a condition names, everywhere and at once."""
        session_ids = {row['id'] for row in change.execute('SELECT id FROM sessions WHERE ' + where, values)}
        change.execute('DELETE FROM sessions WHERE ' + where, values)
        if session_ids:
            self._is_ending = True
            change.afterwards(lambda: self._forget(session_ids))

    def _forget(self, session_ids):
        self._drop(lambda session: session.id in session_ids)
        self._is_ending = False
        self.on_end(session_ids)

    def stands(self, change, session):
        """Whether a session is still there for a change; the table is asked only where the memory may be behind it."""
        is_known = session.cookie in self._known and not self._is_ending
        return is_known or has_row(change, 'sessions', session.id)

    def read_again(self, user_id):
        """Look the sessions of a user up anew: the role has changed."""
        self._drop(lambda session: session.user_id == user_id)

    def _drop(self, is_meant):
        with self._lock:
            for session in [one for one in self._known.values() if is_meant(one)]:
                del self._known[session.cookie]

    def purge(self, change):
        """Delete the sessions that nobody used for too long."""
        self.end(change, 'active_second < ?', self.service.seconds() - self.idle_seconds)


class Tokens:
    """Bearer tokens (RFC 6750), by which programs come in; the table has hashes, and nothing ends them but their owner.

    A request with one has a session whose id is below zero, so that it cannot be taken for a browser's.
    """

    def __init__(self, store, service, random_bytes):
        self.store, self.service, self.random_bytes = store, service, random_bytes
        self.on_end = lambda session_ids: None

    def make(self, change, user_id, name):
        """Returns: the new token's id, and the token, which is nowhere else."""
        text = token(self.random_bytes, 32)
        return change.insert('tokens', token_hash=digest(text), user_id=user_id, name=name, created_at=change.now), text

    def find(self, text):
        """The session that a token opens, or None."""
        row = self.store.reader().execute(
            'SELECT tokens.*, users.role FROM tokens JOIN users ON users.id = tokens.user_id '
            'WHERE token_hash = ? AND users.active', (digest(text),)).fetchone()
        return row and Session(-row['id'], '', row['user_id'], row['role'], row['used_second'] or 0)

    def use(self, session):
        """Note now and then that a program came."""
        second = self.service.seconds()
        if not session.active_second or second - session.active_second >= ACTIVITY_SECONDS:
            self.store.write_soon(lambda change: change.update('tokens', -session.id, used_second=max(1, second)))

    def end(self, change, where, *values):
        """Revoke the tokens that a condition names, everywhere and at once; returns whether there were any."""
        session_ids = {-row['id'] for row in change.execute('SELECT id FROM tokens WHERE ' + where, values)}
        change.execute('DELETE FROM tokens WHERE ' + where, values)
        change.afterwards(lambda: self.on_end(session_ids))
        return bool(session_ids)

    def stands(self, change, session):
        return has_row(change, 'tokens', -session.id)


class Service:
    """Seconds of service: a counter that runs only while the server does, so a wrong clock ends nothing."""

    def __init__(self, clock):
        self.clock = clock
        self._before, self._begun = 0, clock.steady()

    def open(self, store):
        self._before = store.reader().execute('SELECT seconds FROM service').fetchone()['seconds']

    def seconds(self):
        return self._before + int(self.clock.steady() - self._begun)

    def uptime(self):
        """Seconds since this start."""
        return int(self.clock.steady() - self._begun)

    def note(self, change):
        change.execute('UPDATE service SET seconds = ?', (self.seconds(),))


class Locks:
    """Names that are locked after failed sign-ins, known or unknown alike.

    A device on which the user signed in before has a lock of its own, so that a stranger's guesses do not
    shut the user out there.
    """

    def __init__(self, settings, service):
        self.settings, self.service = settings, service

    @property
    def seconds(self):
        return self.settings.lockout_duration_minutes * 60

    def check(self, db, name):
        row = db.execute('SELECT failures, failed_second FROM locks WHERE name = ?', (name,)).fetchone()
        if row is None or row['failures'] < self.settings.max_login_attempts:
            return
        left = row['failed_second'] + self.seconds - self.service.seconds()
        if left > 0:
            raise try_later(423, 'locked', 'Too many failed attempts. Try again in %d minutes.' % math.ceil(left / 60), left)

    def fail(self, change, name):
        """Count a failed attempt; one that was under way when the name was locked hears of the lock.

        Returns: whether this one locked the name.
        """
        self.check(change, name)
        now = self.service.seconds()
        row = change.execute('SELECT failures, failed_second FROM locks WHERE name = ?', (name,)).fetchone()
        failures = row['failures'] if row and row['failed_second'] + self.seconds > now else 0
        change.execute('INSERT OR REPLACE INTO locks (name, failures, failed_second) VALUES (?, ?, ?)',
                       (name, failures + 1, now))
        change.execute('DELETE FROM locks WHERE name IN (SELECT name FROM locks ORDER BY failed_second DESC '
                       'LIMIT -1 OFFSET ?)', (LOCKS_KEPT,))
        return failures + 1 >= self.settings.max_login_attempts

    def forgive(self, change, name):
        change.execute('DELETE FROM locks WHERE name = ?', (name,))


class Throttle:
    """Token buckets by name of limit and by user or address, in bounded memory."""

    def __init__(self, settings, clock):
        self.settings, self.clock = settings, clock
        self._buckets = collections.OrderedDict()
        self._lock = threading.Lock()

    def take(self, name, who):
        """Take one token; raises Refusal 429 when none is left."""
        if not self.settings.rate_limit_enabled:
            return
        most, seconds = (self.settings.rate_limits[name], 60) if name in self.settings.rate_limits else LIMITS[name]
        with self._lock:
            now = self.clock.steady()
            tokens, at = self._buckets.pop((name, who), (most, now))
            tokens = min(most, tokens + (now - at) * most / seconds)
            self._buckets[name, who] = (tokens - 1 if tokens >= 1 else tokens, now)
            if len(self._buckets) > THROTTLES_KEPT:
                self._buckets.popitem(last=False)
        if tokens < 1:
            raise try_later(429, 'too_many_requests', 'Too fast. Wait a moment.', (1 - tokens) * seconds / most)


def read_secret(path, random_bytes):
    """The key that signs cookies; made at the first start, and remade (everybody signs in again) when it is lost."""
    with contextlib.suppress(FileNotFoundError):
        with open(path, 'rb') as file:
            secret = file.read()
        if len(secret) == 32:
            return secret
    secret = random_bytes(32)
    save(path, secret)
    return secret


# ---- 7. AUDIT --------------------------------------------------------

AUDIT_TIME = '%Y-%m-%dT%H:%M:%SZ'
AUDIT_SAFE = "-._~:@/+,"         # what stands in a value as it is, besides letters and digits
AUDIT_PIECE = 65536              # bytes of the log that are read at once


class Audit:
    """audit.log: `2026-06-29T18:04:11Z event=login outcome=failure user=alice src=10.0.0.5`, one line per event.

    Values are percent-encoded (RFC 3986 section 2.1), so that nothing people write can forge a line or a field.
    """

    def __init__(self, path, settings, clock):
        self.path, self.settings, self.clock = path, settings, clock
        self._begun, self._lock = None, threading.Lock()

    def note(self, event, outcome='success', user=None, src=None, **more):
        """Write a line; what is None is left out. A log that cannot be written is said so, and stops nothing."""
        second = self.clock.now() // 1000
        values = [('event', event), ('outcome', outcome), ('user', user), ('src', src)] + list(more.items())
        words = ['%s=%s' % (name, audit_value(value)) for name, value in values if value is not None]
        line = ' '.join([time.strftime(AUDIT_TIME, time.gmtime(second))] + words) + '\n'
        with self._lock:
            try:
                with contextlib.suppress(OSError):       # better too long a log than a line lost
                    self._rotate(second)
                self._append(line.encode('ascii'))
            except OSError as error:
                say('audit.log cannot be written (%s).' % error)

    def _append(self, line):
        """Add a line; one that a crash or a full disk cut off must not swallow it."""
        with open(self.path, 'a+b', opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.seek(max(0, file.tell() - 1))
            is_whole = file.read() in (b'', b'\n')
            file.write(line if is_whole else b'\n' + line)

    def _rotate(self, second):
        """Begin a new file when this one is too large or too old."""
        if not os.path.exists(self.path):
            self._begun = second
            return
        self._begun = self._begun or first_second(self.path, second)
        is_large = os.path.getsize(self.path) >= self.settings.audit_log_max_size_mb * 2 ** 20
        if not is_large and second - self._begun < self.settings.audit_log_max_age_days * 86400:
            return
        paths = self.paths()
        for path in paths[self.settings.audit_log_backups:]:
            os.unlink(path)
        for number, path in reversed(list(enumerate(paths[:self.settings.audit_log_backups], 1))):
            replace(path, '%s.%d' % (self.path, number))
        self._begun = second

    def paths(self):
        """The log and its older parts, the newest first."""
        older = ('%s.%d' % (self.path, number) for number in itertools.count(1))
        return [path for path in [self.path] if os.path.exists(path)] + list(itertools.takewhile(os.path.exists, older))

    def lines(self):
        """Every line there is, the newest first."""
        for path in self.paths():
            with contextlib.suppress(FileNotFoundError), open(path, 'rb') as file:
                yield from (line.decode('ascii', 'replace') for line in lines_backwards(file, AUDIT_PIECE))


def lines_backwards(file, piece):
    """The lines of a binary file, the last first, without empty ones; so many bytes are read at once, from its end."""
    place, begun = file.seek(0, os.SEEK_END), b''
    while place:
        size = min(piece, place)
        place = file.seek(place - size)
        begun, *lines = (file.read(size) + begun).split(b'\n')
        yield from filter(None, reversed(lines))
    if begun:
        yield begun


def audit_value(value):
    return urllib.parse.quote(str(value).encode('utf-8', 'replace'), safe=AUDIT_SAFE)


def first_second(path, otherwise):
    """When the first line of a log was written, in seconds since the epoch."""
    with open(path, encoding='ascii', errors='replace') as file:
        entry = read_audit_line(file.readline())
    return entry['at'] // 1000 if entry else otherwise


def read_audit_line(line):
    """A line as an entry, or None for what is not one."""
    at, _, rest = line.strip().partition(' ')
    try:
        at = datetime.datetime.strptime(at, AUDIT_TIME).replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        return None
    values = dict(word.partition('=')[::2] for word in rest.split(' '))
    values = {name: urllib.parse.unquote(value) for name, value in values.items()}
    entry = {name: values.pop(name, None) for name in ('event', 'outcome', 'user', 'src')}
    return dict(entry, at=int(at.timestamp() * 1000), details=values)


# ---- 8. HTTP ---------------------------------------------------------
#
# RFC 9112 read strictly: what two readers could understand in two ways is refused, and the connection closed.

MOST_LINE, MOST_HEAD, MOST_HEADERS = 8192, 16384, 64
MOST_JSON, MOST_DEPTH = 65536, 64
JSON_MARK = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[][{}]')
METHODS = ('GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE')
ROLES = ('guest', 'bot', 'member', 'admin', 'owner')
ONCE_ONLY = frozenset(('host', 'content-length', 'transfer-encoding', 'content-type', 'origin', 'authorization',
                       'expect', 'range', 'if-range', 'sec-fetch-site', 'x-forwarded-proto'))

REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/(?!/)[A-Za-z0-9\-._~!$&'()*+,;=:@/?%]*) HTTP/([0-9])\.([0-9])")
HEADER_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([!-~\x80-\xff]+(?:[ \t]+[!-~\x80-\xff]+)*)?[ \t]*")
BARE_BREAK = re.compile(rb'(?<!\r)\n|\r(?!\n|\Z)')
HOST = re.compile(r'(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?')

ROUTES = []                      # every route there is
ROUTES_BY_SHAPE = {}             # their index
LOADERS = {}                     # name of a thing in a path: function(request, text) that gives it, or refuses

Route = collections.namedtuple('Route', 'method pattern matcher things fields handler public role limit lane body most audit anywhere')
Head = collections.namedtuple('Head', 'method target minor headers')


def malformed(words, status=400):
    return Refusal(status, 'malformed_request', words, headers=[('Connection', 'close')])


def read_head(block, known=(None, None)):
    """Read a request's head: everything before the empty line, without it.

    Args: the bytes; a pair of header bytes and what they were read as, for a peer that repeats itself.
    Returns: the Head and the pair for the next time.
    """
    line, _, rest = block.partition(b'\r\n')
    match = REQUEST_LINE.fullmatch(line)
    if not match or len(line) > MOST_LINE:
        raise bad_request_line(line)
    if match.group(3) != b'1':
        raise malformed('Only HTTP/1.1 is spoken here.', 505)
    if rest != known[0]:
        known = (rest, read_headers(rest))
    return Head(match.group(1).decode('ascii'), match.group(2).decode('ascii'), int(match.group(4)), known[1]), known


def bad_request_line(line):
    if len(line) > MOST_LINE:
        return malformed('The address is too long.', 414)
    return malformed('The request line is malformed.')


def read_headers(block):
    """Header lines as a dictionary of lower-case names (RFC 9112 section 5)."""
    lines = block.split(b'\r\n') if block else []
    if len(lines) > MOST_HEADERS:
        raise malformed('There are too many header lines.', 431)
    headers = {}
    for line in lines:
        match = HEADER_LINE.fullmatch(line)
        if not match:
            raise malformed('A header line is malformed.')
        name, value = match.group(1).decode('ascii').lower(), (match.group(2) or b'').decode('latin-1')
        if name in headers:
            if name in ONCE_ONLY:
                raise malformed('The header %s stands twice.' % name)
            value = headers[name] + ('; ' if name == 'cookie' else ', ') + value
        headers[name] = value
    check_framing(headers)
    return headers


def check_framing(headers):
    """The headers that say where a request ends and for whom it is (RFC 9112 sections 3.2 and 6)."""
    if not HOST.fullmatch(headers.get('host', '')):
        raise malformed('The Host header is missing or malformed.')
    if 'transfer-encoding' in headers:
        raise malformed('A request body needs a Content-Length.', 501)
    length = headers.get('content-length', '0')
    if not re.fullmatch('[0-9]{1,16}', length, re.ASCII):
        raise malformed('The Content-Length is malformed.')
    if headers.get('expect', '100-continue').lower() != '100-continue':
        raise malformed('This expectation cannot be met.', 417)


def percent_decode(text):
    """Decode once, as strict UTF-8."""
    if '%' not in text:
        return text
    if re.search('%(?![0-9A-Fa-f]{2})', text):
        raise malformed('The address is malformed.')
    try:
        return urllib.parse.unquote_to_bytes(text).decode('utf-8')
    except UnicodeDecodeError:
        raise malformed('The address is not UTF-8.')


def read_query(text):
    values = {}
    for pair in filter(None, text.split('&')):
        name, _, value = pair.replace('+', ' ').partition('=')
        name = percent_decode(name)
        if name in values:
            raise Refusal(400, 'bad_field', 'The field %.60s stands twice.' % name, name)
        values[name] = percent_decode(value)
    return values


def read_cookies(header):
    """Cookies by name. Read by hand: one odd neighbour must not hide the rest."""
    cookies = {}
    for pair in header.split(';'):
        name, _, value = pair.strip().partition('=')
        cookies.setdefault(name, value.strip('"'))
    return cookies


# -- routes

def route(method, pattern, public=False, role='guest', limit=None, lane='crew', body='json', most=MOST_JSON, audit=None,
          anywhere=False):
    """Declare a route: the policy stands here, the data in the handler's signature.

    Args: public lets strangers in; role is the least role that may; limit is a name in LIMITS; lane is where it
    runs: 'lot' (must never wait), 'crew', or 'thread' (may be slow); body is 'json', 'text' (JSON or the bare field
    `text`) or 'raw'; most is how many bytes of JSON it takes; audit is the event written to audit.log; anywhere takes
    writes that do not say where they come from, because what the path names is secret.
    """
    names = re.findall('<([a-z]+)>', pattern)
    matcher = re.compile(re.sub('<[a-z]+>', lambda name: '(.+)' if name.group() == '<asset>' else '([^/]+)', pattern))

    def register(handler):
        one = Route(method, pattern, matcher, names, declared_fields(handler, 1 + len(names)), handler, public, role,
                    limit, lane, body, most, audit, anywhere)
        ROUTES.append(one)
        ROUTES_BY_SHAPE.setdefault(shape(pattern)[0] if '<asset>' in pattern else shape(pattern), []).append(one)
        return handler
    return register


def shape(path):
    """What the index of routes goes by: the first segment, and the number of them."""
    return path.split('/', 2)[1], path.count('/')


def loader(name):
    """Declare how the text that stands for <name> in a path becomes the thing: its permission check."""
    def register(function):
        LOADERS[name] = function
        return function
    return register


@functools.lru_cache(maxsize=512)
def find_route(method, path):
    """Returns: the route and the texts in its path."""
    allowed = set()
    for one in ROUTES_BY_SHAPE.get(shape(path)) or ROUTES_BY_SHAPE.get(shape(path)[0], ()):
        match = one.matcher.fullmatch(path)
        if match and (one.method == method or method == 'HEAD' and one.method == 'GET' and one.lane != 'lot'):
            return one, match.groups()
        if match:
            allowed.update((one.method, 'HEAD') if one.method == 'GET' and one.lane != 'lot' else (one.method,))
    if not allowed:
        raise not_found()
    status = 405 if method in METHODS else 501
    raise Refusal(status, 'method_not_allowed', 'This address does not take %s.' % method,
                  headers=[('Allow', ', '.join(sorted(allowed)))])


# -- requests and replies

class Request:
    """One request on its way through the steps of dispatch."""

    def __init__(self, app, head, peer, is_tls):
        self.app, self.method, self.headers, self.peer = app, head.method, head.headers, peer
        self.path, _, self.query_text = head.target.partition('?')
        self.length = int(head.headers.get('content-length', '0'))
        self.is_proxied = is_proxy(app, peer)
        self.is_secure = head.headers.get('x-forwarded-proto') == 'https' if self.is_proxied else is_tls
        self.keeps_alive = head.minor >= 1 and 'close' not in head.headers.get('connection', '').lower()
        self.bears_token = head.headers.get('authorization', '').partition(' ')[0].lower() == 'bearer'
        self.awaits_continue = 'expect' in head.headers and head.minor >= 1
        self.route = self.path_texts = self.session = self.receive = None
        self.body, self.left, self.noted = b'', 0, {}

    @property
    def lane(self):
        return self.route.lane if self.route else 'crew'

    @property
    def body_is_raw(self):
        """Whether the handler reads the body by itself."""
        return self.route is not None and self.route.body == 'raw'

    @property
    def is_too_large(self):
        most = self.route.most if self.route else MOST_JSON
        return not self.body_is_raw and self.length > most

    @property
    def user_id(self):
        return self.session.user_id

    @property
    def role(self):
        return self.session.role

    @property
    def sessions(self):
        """Where the request's session is found: among those of browsers or of programs."""
        return self.app.tokens if self.bears_token else self.app.sessions

    @property
    def db(self):
        return self.app.store.reader()

    def write(self, function):
        """Run function(change) in the next commit, unless the session has ended since it was found; returns its result."""
        def apply(change):
            if not self.sessions.stands(change, self.session):
                raise signed_out()
            return function(change)
        return self.app.store.write(apply)

    @property
    def is_json(self):
        return self.headers.get('content-type', '').partition(';')[0].strip().lower() == 'application/json'

    @property
    def bearer(self):
        """The token that the request bears, or nothing."""
        return self.headers['authorization'][7:].strip() if self.bears_token else ''

    @property
    def origin(self):
        """Where the peer reached the server, as a URL without a path."""
        return '%s://%s' % ('https' if self.is_secure else 'http', self.headers['host'])

    @property
    def shown_path(self):
        """The path without what must stay secret, whatever was asked of it."""
        for one in ROUTES_BY_SHAPE.get(shape(self.path), ()):
            if 'token' in one.things and one.matcher.fullmatch(self.path):
                return one.pattern
        return self.path

    def note(self, **values):
        """Have values stand in the line that audit.log gets for this request."""
        self.noted.update(values)

    @property
    def address(self):
        """The address of the person: the peer's, or what a trusted proxy says."""
        forwarded = self.headers.get('x-forwarded-for', '') if self.is_proxied else ''
        return forwarded.split(',')[-1].strip() or self.peer

    @property
    def is_local(self):
        """Whether the person sits at this very machine, with nothing in between."""
        return is_loopback(self.peer) and not self.is_proxied and not self.is_forwarded

    @property
    def is_forwarded(self):
        """Whether the request says that something stood in between."""
        return any(name in self.headers for name in ('x-forwarded-for', 'forwarded', 'via', 'x-real-ip'))

    def cookie(self, name):
        return read_cookies(self.headers.get('cookie', '')).get(self.cookie_name(name), '')

    def cookie_name(self, name):
        return ('__Host-' if self.is_secure else '') + name

    def at_least(self, role):
        return ROLES.index(self.role) >= ROLES.index(role)


UNIX_PEER = 'unix'                # who comes by the Unix socket: the proxy


def is_proxy(app, peer):
    """Whether a peer speaks for others: it came by the Unix socket, or a setting names it."""
    return peer == UNIX_PEER or peer in app.settings.trusted_proxies


def is_loopback(address):
    return address == '::1' or address.startswith('127.')


class Reply:
    """An answer: JSON from a value, or other bytes with their type."""

    def __init__(self, status=200, value=None, content=None, headers=(), content_type='application/json'):
        self.status, self.headers, self.type = status, list(headers), content_type
        self.content = content if content is not None else b'' if value is None else encode(value)
        self.length = len(self.content)

    def wire(self, is_head=False, closing=False):
        """The whole answer as bytes."""
        headers = [] if self.status in (204, 304) else [('Content-Type', self.type), ('Content-Length', self.length)]
        if self.type == 'application/json' and self.status != 304:
            headers.append(('Cache-Control', 'no-store'))
        if closing:
            headers.append(('Connection', 'close'))
        return write_head(self.status, headers + self.headers) + (b'' if is_head else self.content)


class FileReply(Reply):
    """A part of a file on disk, sent piece by piece."""

    def __init__(self, status, path, start, length, headers, content_type):
        Reply.__init__(self, status, content=b'', headers=headers, content_type=content_type)
        self.path, self.start, self.length = path, start, length

    @contextlib.contextmanager
    def opened(self):
        """The file, at the start of the part."""
        with open(self.path, 'rb') as file:
            file.seek(self.start)
            yield file

    def load(self):
        """Bring the part into memory."""
        with self.opened() as file:
            self.content = file.read(self.length)
        if len(self.content) < self.length:
            raise OSError('the file has become shorter')


class PassingFile(FileReply):
    """A file that was made for this reply alone, and goes with it."""

    @contextlib.contextmanager
    def opened(self):
        try:
            with FileReply.opened(self) as file:
                yield file
        finally:
            unlink(self.path)


class Parked:
    """What a poll gives instead of a reply: a listener whose answer comes when there is news."""

    def __init__(self, listener):
        self.listener = listener


ALWAYS = (b'Server: MiniMost\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n'
          b'Cross-Origin-Resource-Policy: same-origin\r\n')
CONTROL = re.compile('[\x00-\x1f\x7f]')

PAGE_POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data: blob:",
    "media-src 'self' blob:", "connect-src 'self'", "manifest-src 'self'", "worker-src 'self'", "form-action 'self'",
    "base-uri 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types minimost"))
PERMISSIONS = ('camera=(self), microphone=(self), display-capture=(self), screen-wake-lock=(self), fullscreen=(self), '
               'autoplay=(self), clipboard-write=(self), geolocation=(), payment=(), usb=()')


def write_head(status, headers):
    """The one place where a response's head is written (RFC 9110 section 6.6.1 asks for the date)."""
    lines = ['HTTP/1.1 %d %s\r\nDate: %s\r\n' % (
        status, http.client.responses.get(status, 'Unknown'), http_date(int(time.time())))]
    for name, value in headers:
        value = str(value)
        if CONTROL.search(value):
            raise ValueError('a control character in the header ' + name)
        lines.append('%s: %s\r\n' % (name, value))
    return ''.join(lines).encode('latin-1') + ALWAYS + b'\r\n'


@functools.lru_cache(maxsize=4)
def http_date(second):
    return email.utils.formatdate(second, usegmt=True)


def error_reply(refusal):
    value = {'error': refusal.words, 'code': refusal.code}
    if refusal.field is not None:
        value['field'] = refusal.field
    return Reply(refusal.status, value, headers=refusal.headers)


# -- dispatch

def choose_route(request):
    """Find the route; again, where the server already looked, only if there was none."""
    if request.route is None:
        request.route, request.path_texts = find_route(request.method, request.path)
        request.left = request.length if request.body_is_raw else 0


def check_host(request):
    """Only names that belong to a LAN or to us, against DNS rebinding."""
    host = foreign_host(request.headers['host'])
    if host and host not in request.app.own_names and host not in request.app.settings.allowed_hosts:
        raise Refusal(421, 'wrong_host', 'This server does not go by the name %s.' % host)


@functools.lru_cache(maxsize=256)
def foreign_host(header):
    """The name in a Host header, if it need not belong to a LAN; else nothing."""
    host = HOST.fullmatch(header).group(1).lower().rstrip('.')
    if host.startswith('[') or re.fullmatch(r'[0-9.]+', host) or '.' not in host:
        return ''
    return '' if host.endswith(('.local', '.lan', '.home.arpa', '.internal', '.localhost')) else host


def check_origin(request):
    """A write must come from our own page, or from a program that says so."""
    if request.method in ('GET', 'HEAD') or request.headers.get('x-minimost') == '1' or request.bears_token:
        return
    if request.route.anywhere:
        return
    site = request.headers.get('sec-fetch-site')
    if site != 'same-origin' if site is not None else request.headers.get('origin') != request.origin:
        raise Refusal(403, 'wrong_origin', 'This request did not come from the page of this server.')


def find_session(request):
    request.session = request.sessions.find(request.bearer if request.bears_token else request.cookie('minimost'))
    if request.session is None and not request.route.public:
        raise signed_out()


def check_role(request):
    if request.session and not request.route.public and not request.at_least(request.route.role):
        raise forbidden()


def take_limit(request):
    """By user; what is open to strangers by address, for who signs up gets a new name each time."""
    if request.route.limit:
        request.app.throttle.take(request.route.limit, request.address if request.route.public else request.user_id)


def note_use(request):
    """A person did something; a poll is not that."""
    if request.session and request.route.lane != 'lot':
        request.sessions.use(request.session)


def read_arguments(request):
    """The handler's arguments, from the query or from the JSON body."""
    fields = request.route.fields
    if request.method in ('GET', 'HEAD', 'DELETE') and not request.body or request.route.body == 'raw':
        return read_fields(fields, read_query(request.query_text), from_text=True)
    if not request.body and not any(default is REQUIRED for _, _, default in fields.values()):
        return read_fields(fields, {})
    if request.route.body == 'text' and not request.is_json:
        return read_fields(fields, {'text': read_bare_text(request)})
    return read_fields(fields, read_json(request))


def read_bare_text(request):
    try:
        return request.body.decode('utf-8').replace('\r\n', '\n').strip('\n')
    except UnicodeDecodeError:
        raise Refusal(400, 'bad_field', 'The text is not UTF-8.', 'text')


def read_json(request):
    if not request.is_json:
        raise Refusal(415, 'wrong_type', 'Send JSON, with Content-Type: application/json.')
    if is_deep(request.body):
        raise Refusal(400, 'bad_json', 'The body is nested too deeply.')
    try:
        value = json.loads(request.body.decode('utf-8'), parse_constant=reject_constant)
    except (ValueError, RecursionError):
        raise Refusal(400, 'bad_json', 'The body is not JSON in UTF-8.')
    if not isinstance(value, dict):
        raise Refusal(400, 'bad_json', 'The body must be a JSON object.')
    if any(UNSPEAKABLE.search(name) for name in value):
        raise Refusal(400, 'bad_json', 'A name in the body is not text.')
    return value


def is_deep(body):
    """Whether JSON nests deeper than any request needs, as would end a thread's small stack in C code."""
    depth = 0
    for mark in JSON_MARK.findall(body) if body.count(b'[') + body.count(b'{') > MOST_DEPTH else ():
        depth += 1 if mark in b'[{' else -1 if mark in b']}' else 0
        if depth > MOST_DEPTH:
            return True
    return False


def reject_constant(name):
    raise ValueError(name)


def load_things(request):
    """What the path names, each checked for whether this user may see it."""
    things = []
    for name, text in zip(request.route.things, request.path_texts):
        decoded = percent_decode(text)
        if CONTROL.search(decoded) or '\\' in decoded or decoded.count('/') != text.count('/'):
            raise malformed('The address is malformed.')
        things.append(LOADERS[name](request, decoded))
    return things


BEFORE_BODY = (choose_route, check_host, check_origin, find_session, check_role, take_limit, note_use)


def run_handler(request):
    things = load_things(request)
    return request.route.handler(request, *things, **read_arguments(request))


def run_audited(request):
    """Run the handler, and write down who asked for this and how it ended; not that the server was busy."""
    if request.session:
        request.note(user=username_of(request.db, request.user_id))
    try:
        reply = run_handler(request)
    except Refusal as refusal:
        if refusal.status < 500:
            write_audit(request, 'failure', reason=refusal.code)
        raise
    write_audit(request, 'success')
    return reply


def write_audit(request, outcome, **more):
    request.app.audit.note(request.route.audit, outcome, src=request.address, **dict(request.noted, **more))


def username_of(db, user_id):
    row = db.execute('SELECT username FROM users WHERE id = ?', (user_id,)).fetchone()
    return row and row['username']


def dispatch(request):
    """Answer one request: the edge where everything raised below becomes a reply."""
    try:
        for step in BEFORE_BODY:
            step(request)
        return run_audited(request) if request.route.audit else run_handler(request)
    except Refusal as refusal:
        return error_reply(refusal)
    except sqlite3.Error as error:
        return error_reply(storage_refusal(error))
    except Exception:                        # the edge of dispatch: the person gets an answer, the log the trace
        report()
        return error_reply(Refusal(500, 'server_error', 'Something went wrong in the server.'))


# -- static files and ranges

TYPES = {                        # never the operating system's table, which differs from machine to machine
    '.html': 'text/html; charset=utf-8', '.css': 'text/css; charset=utf-8', '.js': 'text/javascript; charset=utf-8',
    '.json': 'application/json', '.svg': 'image/svg+xml', '.png': 'image/png', '.webmanifest': 'application/manifest+json',
}


STYLE_SHEET = re.compile(rb' *<link rel="stylesheet" href="/static/([^"]+)">\r?\n')
BOUND_SHEET = 'css/all.css'


class Assets:
    """The page's parts, read once; an unknown name is simply not there."""

    def __init__(self, folder):
        self.parts = {}
        for parent, _, names in os.walk(folder):
            for name in sorted(names):
                path = os.path.join(parent, name)
                if os.path.splitext(name)[1] not in TYPES:       # a backup, say, that was put there
                    continue
                with open(path, 'rb') as file:
                    self.parts[os.path.relpath(path, folder).replace(os.sep, '/')] = Asset(name, file.read())
        self.version = self._page_version()
        self._bind_style_sheets()
        with open(os.path.abspath(__file__), 'rb') as file:
            self.build = hashlib.sha256(file.read())
        for name, part in sorted(self.parts.items()):
            self.build.update((name + part.etag).encode('utf-8'))
        self.build = self.build.hexdigest()[:12]

    def _page_version(self):
        """The version that the page was made for."""
        page = self.parts['index.html'].content if 'index.html' in self.parts else b''
        found = re.search(rb'<meta name="version" content="([^"]*)">', page)
        return found.group(1).decode('utf-8') if found else None

    def _bind_style_sheets(self):
        """Many sheets to write, one to load: those that the page links become one part, in their order."""
        page = self.parts['index.html'].content if 'index.html' in self.parts else b''
        names = [name.decode('utf-8') for name in STYLE_SHEET.findall(page)]
        if names and all(name in self.parts for name in names):
            self.parts[BOUND_SHEET] = Asset(BOUND_SHEET, b'\n'.join(self.parts[name].content for name in names))
            link = b'  <link rel="stylesheet" href="/static/%s">\n' % BOUND_SHEET.encode('ascii')
            start = STYLE_SHEET.search(page).start()
            page = page[:start] + link + STYLE_SHEET.sub(b'', page[start:])
            self.parts['index.html'] = Asset('index.html', page)


class Asset:
    """One part of the page, as it is and compressed: that when it is first asked for, so that no start waits for it."""

    def __init__(self, name, content):
        self.content, self._packed = content, None
        self.type = TYPES[os.path.splitext(name)[1]]
        self.etag = '"%s"' % hashlib.sha256(content).hexdigest()[:24]

    @property
    def packed(self):
        if self._packed is None:
            self._packed = gzip.compress(self.content, 9)
        return self._packed


def asset_reply(request, name):
    asset = request.app.assets.parts.get(name)
    if asset is None:
        raise not_found()
    headers = [('ETag', asset.etag), ('Cache-Control', 'no-cache'), ('Vary', 'Accept-Encoding')]
    if asset.type.startswith('text/html'):
        headers += page_headers(request)
    if has_already(request, asset.etag):
        return Reply(304, content=b'', headers=headers, content_type=asset.type)
    if re.search(r'\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))', request.headers.get('accept-encoding', '')):
        return Reply(200, content=asset.packed, headers=headers + [('Content-Encoding', 'gzip')], content_type=asset.type)
    return Reply(200, content=asset.content, headers=headers, content_type=asset.type)


def page_headers(request):
    headers = [('Content-Security-Policy', PAGE_POLICY), ('Permissions-Policy', PERMISSIONS), ('X-Frame-Options', 'DENY')]
    if request.is_secure:            # over plain HTTP browsers only complain about these
        headers += [('Cross-Origin-Opener-Policy', 'same-origin'), ('Cross-Origin-Embedder-Policy', 'require-corp')]
    return headers


@loader('asset')
def load_asset(request, text):
    return text


@route('GET', '/', public=True)
def get_page(request):
    """The app itself."""
    return asset_reply(request, 'index.html')


@route('GET', '/static/<asset>', public=True)
def get_asset(request, asset):
    """The parts of the app."""
    return asset_reply(request, asset)


@route('GET', '/favicon.ico', public=True)
def get_icon(request):
    """The icon that browsers ask for unasked."""
    return asset_reply(request, 'favicon.svg')


@route('GET', '/health', public=True)
def get_health(request):
    """Whether the server is well, for machines that watch it."""
    if request.app.is_stopping:
        raise try_later(503, 'stopping', 'The server is stopping.', 5)
    request.db.execute('SELECT 1')
    return Reply(200, {'status': 'ok', 'version': VERSION})


def has_already(request, etag):
    """Whether the peer holds this version (RFC 9110 section 13.1.2: a list, compared weakly)."""
    given = request.headers.get('if-none-match', '')
    return given == '*' or etag in re.findall('"[^"]*"', given)


def read_range(request, size, etag):
    """The part of a file that is asked for (RFC 9110 section 14): start and length, or None for all of it."""
    match = re.fullmatch('bytes=([0-9]{0,16})-([0-9]{0,16})', request.headers.get('range', ''), re.ASCII)
    if not match or match.group(0) == 'bytes=-' or request.headers.get('if-range', etag) != etag:
        return None
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end or (not first and not int(last)):
        if first and last and int(last) < int(first):
            return None
        raise Refusal(416, 'bad_range', 'The file does not have this part.', headers=[('Content-Range', 'bytes */%d' % size)])
    return start, end - start + 1


# ======================================================================
# THE CHAT
# ======================================================================

# ---- 9. ACCOUNTS -----------------------------------------------------

HUES = ('petrol', 'rust', 'brass', 'plum', 'navy', 'moss', 'slate', 'rose')
RESERVED_NAMES = frozenset(('minimost', 'everyone', 'here', 'deleted'))
DEVICE_COOKIE, DEVICES_KEPT = 'minimost-device', 20
WAITING = 'waiting'              # arrives as such: not in before an administrator has said so
DEPARTING = 'departing.'         # in meta, before the id of one who is leaving
LOCK_MARK = '\n'                 # in the name of a lock that nobody can type
PATH_ID = re.compile('[1-9][0-9]{0,15}', re.ASCII)

UNCHANGED = object()             # stands for a field that was not given, where null means something
ARRIVALS = []                    # functions(change, user_id, role), called when somebody is new
INVITATIONS = []                 # functions(change, user_id, invite), called when somebody came by an invitation
DEPARTURES = []                  # functions(app, change, user_id), called when an account is closed
LOSSES = []                      # functions(app, change, channel_id), called when a channel loses members or is archived
ERASURES = []                    # functions(app, change, user_id, after) that erase some of what a user made after an id: the last one
STARTS = []                      # functions(app, change), called at every start

Username = Match('[A-Za-z0-9_-]{1,32}', '1 to 32 letters A to Z, digits, dashes or underscores')
Password = Text(0, 1024)
Status = Maybe(Record(emoji=Line(0, 16), text=Line(0, 100), until=Maybe(Whole(0))))


def user_value(app, row):
    """A user as everybody may see it."""
    presence, last_seen = app.presence.of(row['id'])
    return {
        'id': row['id'], 'username': row['username'], 'display_name': row['display_name'], 'title': row['title'],
        'role': row['role'], 'color': row['color'], 'bio': row['bio'],
        'status': lasting_status(app, row),
        'avatar': row['avatar'] and '/avatars/%d?v=%s' % (row['id'], row['avatar']),
        'presence': presence, 'presence_until': app.presence.end_of(row['id']), 'last_seen': last_seen,
        'active': bool(row['active'])}


def lasting_status(app, row):
    """The status of a user's row, unless its end has come."""
    status = json.loads(row['status']) if row['status'] else None
    is_over = status and status['until'] is not None and status['until'] <= app.clock.now()
    return None if is_over else status


def end_statuses(app):
    """Take away, and tell of it, the statuses whose end has come."""
    query = 'SELECT id, status FROM users WHERE status IS NOT NULL'

    def has_ended(row):
        return lasting_status(app, row) is None

    def end(change):
        for row in filter(has_ended, change.execute(query).fetchall()):
            change.update('users', row['id'], status=None)
            change.tell('user', row['id'])
    if any(map(has_ended, app.store.reader().execute(query))):
        app.store.write(end)


def get_user(app, db, user_id):
    return user_value(app, db.execute('SELECT * FROM users WHERE id = ?', (user_id,)).fetchone())


def all_users(app, db):
    return [user_value(app, row) for row in db.execute('SELECT * FROM users WHERE approved ORDER BY id')]


def has_owner(db):
    return db.execute("SELECT 1 FROM users WHERE role = 'owner'").fetchone() is not None


@show('user', everybody)
def show_user(app, db, event):
    return get_user(app, db, event.ref)


def path_id(text):
    if not PATH_ID.fullmatch(text):
        raise not_found()
    return int(text)


@route('GET', '/welcome', public=True)
def get_welcome(request):
    """What a page must know before sign-in, and whether it needs one."""
    app, owner = request.app, has_owner(request.db)
    return Reply(200, {
        'signed_in': request.session is not None,
        'name': app.settings.name, 'registration': app.settings.registration, 'owner': owner,
        'setup_code_needed': not owner and not request.is_local,
        'password_min_length': app.settings.password_min_length, 'server': app.about()})


@route('POST', '/signup', public=True, limit='signup', lane='thread', audit='signup')
def sign_up(request, username: Username, password: Password, code: Line(0, 64) = ''):
    """Make an account and sign in; the first one is the owner's, and takes the set-up code from the terminal."""
    app = request.app
    request.note(user=username)
    check_registration(request, request.db, code)
    check_new_password(password, username, app.settings.password_min_length)
    hashed = app.passwords.hash(password)

    def register(change):
        invite = check_registration(request, change, code)
        arrives_as = role_of_newcomer(app, change, invite)
        user_id = add_account(app, change, username, hashed, arrives_as)
        if invite:
            use_invite(change, user_id, invite)
        user = get_user(app, change, user_id)
        return user, invite, sign_in_cookies(request, change, user_id) if user['active'] else None
    user, invite, cookies = app.store.write(register)
    if user['role'] == 'owner':
        app.forget_setup_code()
    if invite:
        app.audit.note('invite-use', user=username, src=request.address, invite=invite['id'])
    if cookies:
        return Reply(201, {'user': user}, headers=cookies)
    app.news.pass_on('notice', {'code': 'waiting', 'username': username}, governors(app.news))
    return Reply(201, {'user': user, 'waiting': True})


def governors(news):
    """Administrators and owners."""
    return Those(lambda user_id: news.has_role(user_id, 'admin', 'owner'))


def check_registration(request, db, code):
    """Whether somebody may make an account now; returns the invitation whose code was given, if there is one."""
    app, registration = request.app, request.app.settings.registration
    if not has_owner(db):
        is_right = app.setup_code and hmac.compare_digest(digest(code.upper()), digest(app.setup_code))
        if not request.is_local and not is_right:
            raise Refusal(403, 'setup_code_needed', 'Enter the set-up code that the server shows in its terminal.', 'code')
        return None
    if registration == 'closed':
        raise Refusal(403, 'registration_closed', 'Nobody can make an account here now. Ask an administrator.')
    if code:
        return find_invite(app, db, code)
    if registration == 'invite':
        raise Refusal(403, 'invite_needed', 'Enter the code of your invitation.', 'code')
    return None


def find_invite(app, db, code):
    row = db.execute('SELECT * FROM invites WHERE code_hash = ? AND uses_left > 0 AND expires_second > ?',
                     (invite_digest(code), app.service.seconds())).fetchone()
    if row is None:
        raise Refusal(403, 'invite_invalid', 'This invitation is not valid, or no longer. Ask for a new one.', 'code')
    return row


def invite_digest(code):
    """People type codes in small letters and leave the dashes out."""
    return digest(re.sub('[^A-Z0-9]', '', code.upper()))


def use_invite(change, user_id, invite):
    change.execute('UPDATE invites SET uses_left = uses_left - 1 WHERE id = ?', (invite['id'],))
    for invited in INVITATIONS:
        invited(change, user_id, invite)


def role_of_newcomer(app, db, invite):
    if not has_owner(db):
        return 'owner'
    if invite:
        return invite['role']
    return WAITING if app.settings.registration == 'approve' else 'member'


def add_account(app, change, username, hashed, arrives_as):
    """Make an account and its profile; returns the user's id."""
    key = username.lower()
    if key in RESERVED_NAMES or change.execute('SELECT 1 FROM accounts WHERE username_key = ?', (key,)).fetchone():
        raise Refusal(409, 'name_taken', 'This name is taken.', 'username')
    user_id = change.insert('accounts', username=username, username_key=key, password=hashed, arrives_as=arrives_as,
                            created_at=change.now)
    add_profile(change, user_id, username, arrives_as)
    return user_id


def add_profile(change, user_id, username, arrives_as):
    """Make a profile; one who waits for approval has it, but nobody is told yet."""
    waits = arrives_as == WAITING
    change.insert('users', id=user_id, username=username, display_name=username, role='member' if waits else arrives_as,
                  color=HUES[user_id % len(HUES)], created_at=change.now, active=int(not waits), approved=int(not waits))
    if not waits:
        welcome(change, user_id, arrives_as)


def welcome(change, user_id, role):
    change.tell('user', user_id)
    for arrive in ARRIVALS:
        arrive(change, user_id, role)


def repair_accounts(app, change):
    """Give a profile to accounts that a crash left without one: auth.db commits first."""
    for row in change.execute('SELECT id, username, arrives_as FROM accounts WHERE id NOT IN (SELECT id FROM users) '
                              'ORDER BY id').fetchall():
        add_profile(change, row['id'], row['username'], row['arrives_as'] if has_owner(change) else 'owner')


STARTS.append(repair_accounts)


def sign_in_cookies(request, change, user_id):
    """Begin a session in a change, remember the device; returns the headers that set both cookies."""
    app, device = request.app, token(request.app.random_bytes)
    last = change.execute('SELECT max(created_at) FROM devices WHERE user_id = ?', (user_id,)).fetchone()[0] or 0
    change.insert('devices', token_hash=digest(device), user_id=user_id,
                  created_at=max(change.now, last + 1))          # the newest stays, though the clock was ahead before
    change.execute('DELETE FROM devices WHERE user_id = ? AND token_hash NOT IN (SELECT token_hash FROM devices '
                   'WHERE user_id = ? ORDER BY created_at DESC LIMIT ?)', (user_id, user_id, DEVICES_KEPT))
    session = app.sessions.begin(change, user_id, request.headers.get('user-agent', ''), request.address)
    return [set_cookie(request, request.cookie_name('minimost'), session, '/', 'Lax'),
            set_cookie(request, DEVICE_COOKIE, device, '/login', 'Strict')]


def set_cookie(request, name, value, path, same_site, seconds=SESSION_DAYS * 86400):
    secure = '; Secure' if request.is_secure else ''
    return 'Set-Cookie', '%s=%s; Max-Age=%d; Path=%s; HttpOnly; SameSite=%s%s' % (
        name, value, seconds, path, same_site, secure)


@route('POST', '/login', public=True, limit='login', lane='thread', audit='login')
def log_in(request, username: Line(0, 64), password: Password):
    """Sign in."""
    app = request.app
    request.note(user=username)
    account = find_account(request.db, username)
    lock = lock_name(request, username, account)
    app.locks.check(request.db, lock)
    if not app.passwords.matches(password, account and account['password']) or not may_enter(request.db, account['id']):
        count_failure(request, lock, username)
        raise Refusal(401, 'wrong_password', 'The name or the password is wrong.')
    better = app.passwords.hash(password) if app.passwords.is_weak(account['password']) else None

    def enter(change):
        app.locks.check(change, lock)
        require_same_password(change, account)
        app.locks.forgive(change, lock)
        if better:
            change.update('accounts', account['id'], password=better)
        return get_user(app, change, account['id']), sign_in_cookies(request, change, account['id'])
    user, cookies = app.store.write(enter)
    return Reply(200, {'user': user}, headers=cookies)


def may_enter(db, user_id):
    """Whether one who knows the password comes in; one who has yet to be let in hears so."""
    row = db.execute('SELECT active, approved FROM users WHERE id = ?', (user_id,)).fetchone()
    if row is not None and not row['approved']:
        raise Refusal(403, 'not_approved', 'An administrator has yet to let you in. Try again later.')
    return row is not None and row['active']


def count_failure(request, lock, username):
    if request.app.store.write(functools.partial(request.app.locks.fail, name=lock)):
        request.app.audit.note('lockout', 'failure', user=username, src=request.address)


def find_account(db, username):
    return db.execute('SELECT * FROM accounts WHERE username_key = ?', (username.lower(),)).fetchone()


def require_same_password(change, account):
    """What was compared outside the change must still stand in it."""
    row = change.execute('SELECT password FROM accounts WHERE id = ?', (account['id'],)).fetchone()
    if row is None or row['password'] != account['password'] or not is_active(change, account['id']):
        raise Refusal(401, 'wrong_password', 'The password has just been changed. Sign in with the new one.')


def is_active(db, user_id):
    return db.execute('SELECT 1 FROM users WHERE id = ? AND active', (user_id,)).fetchone() is not None


def lock_name(request, username, account):
    """What failed attempts are counted under: the name, or the name on a device that it is known on."""
    device = digest(read_cookies(request.headers.get('cookie', '')).get(DEVICE_COOKIE, ''))
    known = account and request.db.execute('SELECT 1 FROM devices WHERE token_hash = ? AND user_id = ?',
                                           (device, account['id'])).fetchone()
    return username.lower() + (LOCK_MARK + device.hex()[:16] if known else '')


@route('POST', '/logout', audit='logout')
def log_out(request):
    """Sign out: the session is revoked on the server."""
    request.app.store.write(lambda change: request.app.sessions.end(change, 'id = ?', request.session.id))
    return Reply(204, headers=[set_cookie(request, request.cookie_name('minimost'), '', '/', 'Lax', 0)])


def check_current_password(request, password, field):
    """One who is signed in says the password again; returns the account.

    Failures are counted apart from those at sign-in, so that a stranger who locks the name does not lock this.
    """
    app = request.app
    account = request.db.execute('SELECT * FROM accounts WHERE id = ?', (request.user_id,)).fetchone()
    if account is None:
        raise Refusal(401, 'sign_in', 'This account has been closed.')
    lock = account['username_key'] + LOCK_MARK + 'change'
    app.locks.check(request.db, lock)
    if not app.passwords.matches(password, account['password']):
        count_failure(request, lock, account['username'])
        raise Refusal(403, 'wrong_password', 'The password is wrong.', field)
    app.store.write(functools.partial(app.locks.forgive, name=lock))
    return account


@route('POST', '/password', limit='login', lane='thread', audit='password-change')
def change_password(request, current: Password, new: Password):
    """Change one's password; every other session of the user is revoked."""
    app = request.app
    account = check_current_password(request, current, 'current')
    check_new_password(new, account['username'], app.settings.password_min_length, 'new')
    hashed = app.passwords.hash(new)

    def store(change):
        require_same_password(change, account)
        change.update('accounts', account['id'], password=hashed)
        app.sessions.end(change, 'user_id = ? AND id <> ?', account['id'], request.session.id)
    request.write(store)
    return Reply(204)


@route('GET', '/me')
def get_me(request):
    """Oneself, with one's preferences."""
    return Reply(200, me_value(request.app, request.db, request.user_id))


def me_value(app, db, user_id):
    row = db.execute('SELECT * FROM users WHERE id = ?', (user_id,)).fetchone()
    return {'user': user_value(app, row), 'preferences': json.loads(row['preferences'])}


@show('preferences', one_user)
def show_preferences(app, db, event):
    return me_value(app, db, event.ref)['preferences']


@route('PATCH', '/me', limit='change')
def change_me(request, display_name: Line(1, 60) = None, title: Line(0, 60) = None, color: OneOf(*HUES) = None,
              bio: Text(0, 500) = None, status: Status = UNCHANGED, preferences: SmallObject(16384) = None):
    """Change one's profile or preferences."""
    changes = {name: value for name, value in (('display_name', display_name), ('title', title), ('color', color),
                                               ('bio', bio)) if value is not None}
    if status is not UNCHANGED:
        changes['status'] = status and encode(status).decode('utf-8')

    def apply(change):
        if preferences is not None:
            change.update('users', request.user_id, preferences=encode(preferences).decode('utf-8'))
            change.tell('preferences', request.user_id, user_id=request.user_id)
        if changes:
            change.update('users', request.user_id, **changes)
            change.tell('user', request.user_id)
        return me_value(request.app, change, request.user_id)
    return Reply(200, request.write(apply))


@route('DELETE', '/me', limit='login', lane='thread', audit='account-delete')
def close_account(request, password: Password, messages: OneOf('keep', 'delete')):
    """Delete one's account for good; what one wrote stays without a name, or goes as well."""
    app = request.app
    account = check_current_password(request, password, 'password')

    def announce(change):
        require_same_password(change, account)
        require_another_owner(change, request.user_id)
        set_meta(change, DEPARTING + str(request.user_id), messages)
    request.write(announce)
    app.store.write(functools.partial(finish_departures, app))
    erase_departed(app)
    return Reply(204, headers=[set_cookie(request, request.cookie_name('minimost'), '', '/', 'Lax', 0)])


def require_another_owner(db, user_id):
    """The last owner stays: nobody else could make another. One who is leaving as well does not count."""
    owners = {row['id'] for row in db.execute("SELECT id FROM users WHERE role = 'owner' AND active")}
    if not owners.difference(departures(db), [user_id]):
        raise Refusal(409, 'last_owner', 'The last owner cannot go. Make somebody else an owner first.')


def departures(db):
    """Those who are leaving, as announced in messages.db, which commits last: {user id: "keep" or "delete"}."""
    rows = db.execute('SELECT name, value FROM meta WHERE name LIKE ?', (DEPARTING + '%',)).fetchall()
    return {int(row['name'][len(DEPARTING):]): row['value'] for row in rows}


def finish_departures(app, change):
    """Remove the accounts of those who are leaving; at the start as well, for a crash may have come between."""
    for user_id in departures(change):
        shut_out(app, change, user_id)
        change.execute('DELETE FROM devices WHERE user_id = ?', (user_id,))
        void_papers(change, user_id)
        change.execute('DELETE FROM accounts WHERE id = ?', (user_id,))
        for depart in DEPARTURES:
            depart(app, change, user_id)
        change.update('users', user_id, username='deleted-%d' % user_id, display_name='Deleted account', title='', bio='',
                      role='member', status=None, avatar=None, preferences='{}', active=0)
        change.tell('user', user_id)


STARTS.append(finish_departures)


def shut_out(app, change, user_id):
    """End every session and every token of a user."""
    app.sessions.end(change, 'user_id = ?', user_id)
    app.tokens.end(change, 'user_id = ?', user_id)


def void_papers(change, user_id):
    """Invitations that a user made, and a link for the password, end with the standing in which they were given."""
    change.execute('DELETE FROM invites WHERE created_by = ?', (user_id,))
    change.execute('DELETE FROM resets WHERE user_id = ?', (user_id,))


ERASING_SECONDS = 1              # at a time, where the other chores wait


def erase_departed(app, seconds=math.inf):
    """Erase, for so long, what those made who wanted it gone with their account; when all is, they have left."""
    end = app.clock.steady() + seconds
    for user_id, wish in departures(app.store.reader()).items():
        if wish == 'delete' and not all(is_erased(app, erase, user_id, end) for erase in ERASURES):
            return
        app.store.write(lambda change: change.execute('DELETE FROM meta WHERE name = ?', (DEPARTING + str(user_id),)))


def is_erased(app, erase, user_id, end):
    """Erase in pieces until the steady clock says so; returns whether nothing is left."""
    after = 0
    while after is not None and app.clock.steady() < end:
        after = app.store.write(functools.partial(erase, app, user_id=user_id, after=after))
    return after is None


@route('GET', '/me/sessions')
def get_sessions(request):
    """The browsers in which one is signed in."""
    rows = request.db.execute('SELECT * FROM sessions WHERE user_id = ? ORDER BY id DESC', (request.user_id,))
    return Reply(200, {'sessions': [
        {'id': row['id'], 'agent': row['agent'], 'address': row['address'], 'created_at': row['created_at'],
         'idle_seconds': max(0, request.app.service.seconds() - row['active_second']),
         'current': row['id'] == request.session.id} for row in rows]})


@route('DELETE', '/me/sessions/<number>', audit='session-revoke')
def end_session(request, session_id):
    """Sign out another browser of one's own."""
    def end(change):
        if not change.execute('SELECT 1 FROM sessions WHERE id = ? AND user_id = ?',
                              (session_id, request.user_id)).fetchone():
            raise not_found()
        request.app.sessions.end(change, 'id = ?', session_id)
    request.write(end)
    return Reply(204)


@route('DELETE', '/me/sessions')
def end_other_sessions(request):
    """Sign out everywhere but here."""
    request.write(lambda change: request.app.sessions.end(
        change, 'user_id = ? AND id <> ?', request.user_id, request.session.id))
    return Reply(204)


# -- programs that come in a person's name

MOST_TOKENS = 50                 # of one person


@route('GET', '/me/tokens')
def get_tokens(request):
    """The names of one's tokens, with which programs come in; the tokens themselves were shown once."""
    second = request.app.service.seconds()
    rows = request.db.execute('SELECT * FROM tokens WHERE user_id = ? ORDER BY id DESC', (request.user_id,))
    return Reply(200, {'tokens': [
        {'id': row['id'], 'name': row['name'], 'created_at': row['created_at'],
         'idle_seconds': row['used_second'] and max(0, second - row['used_second'])} for row in rows]})


@route('POST', '/me/tokens', limit='change', audit='token-make')
def make_token(request, name: Line(1, 60)):
    """Make a token with which a program comes in as oneself."""
    def make(change):
        count = change.execute('SELECT count(*) FROM tokens WHERE user_id = ?', (request.user_id,)).fetchone()[0]
        if count >= MOST_TOKENS:
            raise Refusal(409, 'too_many', 'You have %d tokens. Revoke one first.' % MOST_TOKENS)
        return request.app.tokens.make(change, request.user_id, name)
    token_id, text = request.write(make)
    request.note(token=token_id)
    return Reply(201, {'id': token_id, 'token': text})


@route('DELETE', '/me/tokens/<number>', audit='token-revoke')
def end_token(request, token_id):
    """Revoke one of one's tokens."""
    request.note(token=token_id)
    if not request.write(lambda change: request.app.tokens.end(
            change, 'id = ? AND user_id = ?', token_id, request.user_id)):
        raise not_found()
    return Reply(204)


# -- new passwords by a link

def find_reset(app, db, text):
    row = db.execute('SELECT accounts.* FROM resets JOIN accounts ON accounts.id = resets.user_id '
                     'WHERE token_hash = ? AND expires_second > ?', (digest(text), app.service.seconds())).fetchone()
    if row is None or not is_active(db, row['id']):
        raise Refusal(404, 'link_void', 'This link has been used, or is too old. Ask an administrator for a new one.')
    return row


@loader('token')
def load_token(request, text):
    return text


@route('GET', '/reset/<token>', public=True, limit='login')
def get_reset(request, text):
    """Whose password a link sets."""
    return Reply(200, {'username': find_reset(request.app, request.db, text)['username'],
                       'password_min_length': request.app.settings.password_min_length})


@route('POST', '/reset/<token>', public=True, limit='login', lane='thread', audit='reset-use')
def use_reset(request, text, new: Password):
    """Set a password with a link that an administrator made; every session and token of the user is revoked."""
    app = request.app
    account = find_reset(app, request.db, text)
    request.note(user=account['username'])
    check_new_password(new, account['username'], app.settings.password_min_length, 'new')
    hashed = app.passwords.hash(new)

    def store(change):
        user_id = find_reset(app, change, text)['id']
        change.execute('DELETE FROM resets WHERE user_id = ?', (user_id,))
        change.execute('DELETE FROM devices WHERE user_id = ?', (user_id,))
        change.update('accounts', user_id, password=hashed)
        app.locks.forgive(change, account['username_key'])
        shut_out(app, change, user_id)
    app.store.write(store)
    return Reply(204)


@loader('user')
def load_user(request, text):
    row = request.db.execute('SELECT * FROM users WHERE id = ?', (path_id(text),)).fetchone()
    if row is None:
        raise not_found()
    return row


@loader('number')
def load_number(request, text):
    return path_id(text)


@route('GET', '/users')
def get_users(request):
    """Everybody."""
    return Reply(200, {'users': all_users(request.app, request.db)})


# ---- 10. CHANNELS ----------------------------------------------------

MOST_IN_GROUP = 12               # people in a direct channel
UNREAD_LIMIT = 1000              # counts are exact below
EVERYONE = 0                     # stands for a user id in a mention of all
CHANNEL_AND_MEMBERSHIP = (
    'SELECT channels.*, members.user_id AS joined, since_message, read_to, notify, hidden, favourite '
    'FROM channels LEFT JOIN members ON members.channel_id = channels.id AND members.user_id = ? ')


def find_channel(db, user_id, role, channel_id):
    """A channel together with the user's membership, if the user may see it; else it is not there."""
    row = db.execute(
        CHANNEL_AND_MEMBERSHIP + 'WHERE channels.id = ?', (user_id, channel_id)).fetchone()
    if row is None or row['joined'] is None and (row['kind'] != 'public' or role == 'guest'):
        raise not_found()
    return row


@loader('channel')
def load_channel(request, text):
    return find_channel(request.db, request.user_id, request.role, path_id(text))


def reload_channel(change, request, channel):
    """Look at the channel once more inside a change: rights may have gone since the request was read."""
    return find_channel(change, request.user_id, request.role, channel['id'])


def require_joined(channel):
    if channel['joined'] is None:
        raise forbidden('Join the channel first.')


def require_open(channel):
    require_joined(channel)
    if channel['archived']:
        raise Refusal(403, 'archived', 'This channel is archived. It can only be read.')


def require_keeper(request, channel):
    """Those who may change a channel: its creator and administrators, who are in it."""
    require_joined(channel)
    if channel['kind'] == 'direct' or not (request.at_least('admin') or channel['created_by'] == request.user_id):
        raise forbidden('Only the one who made the channel, or an administrator in it, may do that.')


def channel_value(db, row):
    """A channel without anything personal."""
    members = None if row['kind'] == 'public' else member_ids(db, row['id'])
    return {
        'id': row['id'], 'kind': row['kind'], 'name': row['name'], 'topic': row['topic'], 'posting': row['posting'],
        'member_count': count_members(db, row['id']) if members is None else len(members), 'members': members,
        'created_by': row['created_by'], 'last_message_id': last_message(db, row['id']),
        'archived': bool(row['archived']), 'created_at': row['created_at']}


def count_members(db, channel_id):
    return db.execute('SELECT count(*) FROM members WHERE channel_id = ?', (channel_id,)).fetchone()[0]


def member_ids(db, channel_id):
    return [row['user_id'] for row in db.execute(
        'SELECT user_id FROM members WHERE channel_id = ? ORDER BY user_id', (channel_id,))]


def last_message(db, channel_id):
    return db.execute('SELECT max(id) FROM messages WHERE channel_id = ?', (channel_id,)).fetchone()[0] or 0


def marks_value(db, user_id, row):
    """What only a member sees of the membership, from a row that holds it."""
    if row['joined'] is None:
        return {'joined': False, 'read_to': 0, 'unread': 0, 'mentions': 0, 'notify': 'all', 'hidden': False,
                'favourite': False}
    after = max(row['read_to'], row['since_message'])
    return {'joined': True, 'read_to': row['read_to'], 'unread': count_unread(db, user_id, row['id'], after),
            'mentions': count_mentions(db, user_id, row['id'], after), 'notify': row['notify'],
            'hidden': bool(row['hidden']), 'favourite': bool(row['favourite'])}


def count_unread(db, user_id, channel_id, after):
    return db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM messages WHERE channel_id = ? AND id > ? AND user_id <> ? "
        "AND kind <> 'system' AND deleted = 0 LIMIT ?)", (channel_id, after, user_id, UNREAD_LIMIT)).fetchone()[0]


def count_mentions(db, user_id, channel_id, after):
    return db.execute(
        'SELECT count(*) FROM (SELECT DISTINCT message_id FROM mentions JOIN messages ON messages.id = message_id '
        'WHERE mentions.user_id IN (?, ?) AND mentions.channel_id = ? AND message_id > ? AND messages.user_id <> ? '
        'LIMIT ?)', (user_id, EVERYONE, channel_id, after, user_id, UNREAD_LIMIT)).fetchone()[0]


def own_channel_value(db, user_id, row):
    """A channel as an answer to one user: with the personal fields."""
    value = channel_value(db, row)
    value.update(marks_value(db, user_id, row))
    return value


def own_channels(db, user_id, role):
    """One's own channels, and the public ones one could join."""
    return [own_channel_value(db, user_id, row) for row in channel_rows(db, user_id, role)]


def channel_rows(db, user_id, role):
    """The channels that a user may read, with the membership where there is one."""
    return db.execute(
        CHANNEL_AND_MEMBERSHIP +
        "WHERE members.user_id IS NOT NULL OR kind = 'public' AND ? <> 'guest' ORDER BY channels.id",
        (user_id, role)).fetchall()


def membership_rows(db, user_id):
    """The channels that a user is in, with the membership."""
    return db.execute(CHANNEL_AND_MEMBERSHIP + 'WHERE members.user_id IS NOT NULL ORDER BY channels.id',
                      (user_id,)).fetchall()


def channel_reply(request, db, channel_id, status=200):
    row = find_channel(db, request.user_id, request.role, channel_id)
    return Reply(status, {'channel': own_channel_value(db, request.user_id, row)})


# -- what is told

@show('channel', finders, moves_members=True)
def show_channel(app, db, event):
    return channel_value(db, db.execute('SELECT * FROM channels WHERE id = ?', (event.ref,)).fetchone())


@show('gone', one_user, wire='channel', moves_members=True)
def show_gone(app, db, event):
    return {'id': event.ref, 'gone': True}


@show('mine', one_member)
def show_mine(app, db, event):
    row = db.execute('SELECT *, user_id AS joined, channel_id AS id FROM members WHERE channel_id = ? AND user_id = ?',
                     (event.ref, event.user_id)).fetchone()
    if row is None:
        return None
    value = marks_value(db, event.user_id, row)
    del value['joined']
    return dict(value, channel_id=event.ref)


@show('read', small_channel)
def show_read(app, db, event):
    row = db.execute('SELECT read_to FROM members WHERE channel_id = ? AND user_id = ?',
                     (event.ref, event.user_id)).fetchone()
    return row and {'channel_id': event.ref, 'user_id': event.user_id, 'read_to': row['read_to']}


def tell_channel(change, channel_id):
    change.tell('channel', channel_id, channel_id)


def tell_loss(app, change, channel_id):
    """Tell of a channel that fewer may use now."""
    tell_channel(change, channel_id)
    for follow in LOSSES:
        follow(app, change, channel_id)


def tell_mine(change, channel_id, user_id):
    change.tell('mine', channel_id, channel_id, user_id)


def write_line(change, channel_id, author_id, **data):
    """Add a system line to a channel."""
    add_line(change, 'system', channel_id, author_id, data)


def add_line(change, kind, channel_id, author_id, data):
    """Add a line without words, whose data the page puts into words; returns its id."""
    message_id = change.insert('messages', channel_id=channel_id, user_id=author_id, kind=kind, text='',
                               data=encode(data).decode('utf-8'), created_at=change.now)
    change.tell('message', message_id, channel_id)
    return message_id


# -- making and changing

def add_channel(change, kind, created_by, **values):
    """Make a channel without members; returns its id."""
    if kind == 'public' and change.execute("SELECT 1 FROM channels WHERE kind = 'public' AND name_key = ?",
                                           (values['name'].casefold(),)).fetchone():
        raise Refusal(409, 'name_taken', 'There is a channel of this name.', 'name')
    name = values.get('name')
    return change.insert('channels', kind=kind, created_by=created_by, created_at=change.now,
                         name_key=name and name.casefold(), **values)


def add_member(change, channel_id, user_id, since=0):
    """Put somebody into a channel, with nothing unread; returns whether that was new."""
    cursor = change.execute('INSERT OR IGNORE INTO members (channel_id, user_id, since_message, read_to) '
                            'VALUES (?, ?, ?, ?)', (channel_id, user_id, since, last_message(change, channel_id)))
    if cursor.rowcount:
        tell_mine(change, channel_id, user_id)
    return bool(cursor.rowcount)


def make_first_channels(app, change):
    """At the first start: the public channels that everybody belongs to."""
    if get_meta(change, 'first_channels') is None:
        channel_ids = [add_channel(change, 'public', None, name=name) for name in app.settings.channels]
        set_meta(change, 'first_channels', json.dumps(channel_ids))


STARTS.append(make_first_channels)


def join_first_channels(change, user_id, role):
    for channel_id in json.loads(get_meta(change, 'first_channels') or '[]') if role != 'guest' else ():
        add_member(change, channel_id, user_id)
        tell_channel(change, channel_id)


ARRIVALS.append(join_first_channels)


def join_by_invitation(change, user_id, invite):
    """Lead one who was invited to a channel there, with its past where everybody may read it."""
    row = change.execute('SELECT * FROM channels WHERE id = ?', (invite['channel_id'],)).fetchone()
    if row is None or row['archived'] or row['kind'] != 'public' and invite['created_by'] not in member_ids(change, row['id']):
        return
    since = 0 if row['kind'] == 'public' else last_message(change, row['id'])
    if add_member(change, row['id'], user_id, since):
        tell_channel(change, row['id'])
        write_line(change, row['id'], invite['created_by'] or user_id, event='added', user_id=user_id)


INVITATIONS.append(join_by_invitation)


def leave_all_channels(app, change, user_id):
    """One who is gone for good leaves all but direct channels, which belong to the others as well."""
    for row in change.execute("SELECT id FROM channels JOIN members ON members.channel_id = channels.id "
                              "WHERE members.user_id = ? AND kind <> 'direct'", (user_id,)).fetchall():
        change.execute('DELETE FROM members WHERE channel_id = ? AND user_id = ?', (row['id'], user_id))
        tell_loss(app, change, row['id'])


DEPARTURES.append(leave_all_channels)


def require_people(db, user_ids, field='users'):
    """Everybody named must be there."""
    for user_id in user_ids:
        if not is_active(db, user_id):
            raise Refusal(400, 'no_such_user', 'There is no user %d.' % user_id, field)


@route('GET', '/channels', limit='read')
def get_channels(request):
    """One's own channels, and the public ones one could join."""
    return Reply(200, {'channels': own_channels(request.db, request.user_id, request.role)})


@route('POST', '/channels', role='member', limit='change')
def make_channel(request, name: ChannelName, kind: OneOf('public', 'private'), topic: Line(0, 250) = '',
                 posting: OneOf('all', 'admins') = 'all', members: ListOf(Id, 1000) = ()):
    """Make a channel; its maker is in it."""
    def make(change):
        require_people(change, members, 'members')
        channel_id = add_channel(change, kind, request.user_id, name=name, topic=topic, posting=posting)
        tell_channel(change, channel_id)
        for user_id in {request.user_id, *members}:
            add_member(change, channel_id, user_id)
        return channel_reply(request, change, channel_id, 201)
    return request.write(make)


@route('GET', '/channels/<channel>')
def get_channel(request, channel):
    """One channel."""
    return channel_reply(request, request.db, channel['id'])


@route('PATCH', '/channels/<channel>', limit='change')
def change_channel(request, channel, name: ChannelName = None, topic: Line(0, 250) = None,
                   posting: OneOf('all', 'admins') = None, archived: Truth() = None):
    """Rename, describe, archive a channel, or say who may write in it."""
    def apply(change):
        before = reload_channel(change, request, channel)
        require_keeper(request, before)
        if before['archived'] and archived is not False:
            require_open(before)
        for alter, value in ((rename, name), (describe, topic), (restrict, posting), (archive, archived)):
            if value is not None:
                alter(change, request.user_id, before, value)
        if archived:
            tell_loss(request.app, change, channel['id'])
        return channel_reply(request, change, channel['id'])
    return request.write(apply)


def alter_channel(change, user_id, channel, column, value, event, **data):
    """Change a column, tell, and leave a line in the channel; nothing where the value is the same."""
    if channel[column] != value:
        change.update('channels', channel['id'], **{column: value})
        tell_channel(change, channel['id'])
        write_line(change, channel['id'], user_id, event=event, **data)


def rename(change, user_id, channel, name):
    key = name.casefold()
    if channel['kind'] == 'public' and change.execute(
            "SELECT 1 FROM channels WHERE kind = 'public' AND name_key = ? AND id <> ?", (key, channel['id'])).fetchone():
        raise Refusal(409, 'name_taken', 'There is a channel of this name.', 'name')
    change.update('channels', channel['id'], name_key=key)
    alter_channel(change, user_id, channel, 'name', name, 'renamed', **{'from': channel['name'], 'to': name})


def describe(change, user_id, channel, topic):
    alter_channel(change, user_id, channel, 'topic', topic, 'topic', to=topic)


def restrict(change, user_id, channel, posting):
    alter_channel(change, user_id, channel, 'posting', posting, 'posting', to=posting)


def archive(change, user_id, channel, archived):
    alter_channel(change, user_id, channel, 'archived', int(archived), 'archived' if archived else 'unarchived')


# -- members

@route('GET', '/channels/<channel>/members')
def get_members(request, channel):
    """Who is in a channel."""
    return Reply(200, {'users': member_ids(request.db, channel['id'])})


@route('POST', '/channels/<channel>/members', limit='change')
def add_members(request, channel, users: ListOf(Id, 1000), history: Truth() = False):
    """Join a public channel, or bring others into a channel one is in, with its past or without."""
    def add(change):
        before = reload_channel(change, request, channel)
        require_invitation(request, before, users)
        require_people(change, users)
        past = before['since_message'] or 0          # nobody gives away more of it than they see
        since = past if history or before['kind'] == 'public' else last_message(change, channel['id'])
        for user_id in users:
            if add_member(change, channel['id'], user_id, since):
                event = 'joined' if user_id == request.user_id else 'added'
                write_line(change, channel['id'], request.user_id, event=event, user_id=user_id)
        tell_channel(change, channel['id'])
        return channel_reply(request, change, channel['id'])
    return request.write(add)


def require_invitation(request, channel, user_ids):
    if channel['kind'] == 'direct':
        raise Refusal(409, 'direct', 'Start a new conversation with these people instead.')
    if channel['archived']:
        raise Refusal(403, 'archived', 'This channel is archived. It can only be read.')
    if channel['kind'] == 'public' and user_ids == [request.user_id]:
        return
    require_joined(channel)
    if not request.at_least('member'):
        raise forbidden('Guests cannot invite.')


@route('DELETE', '/channels/<channel>/members/<number>', limit='change')
def remove_member(request, channel, user_id):
    """Leave a channel, or remove somebody from it."""
    def remove(change):
        before = reload_channel(change, request, channel)
        require_joined(before)
        if before['kind'] == 'direct':
            raise Refusal(409, 'direct', 'A direct conversation cannot be left. Hide it instead.')
        if user_id != request.user_id:
            require_keeper(request, before)
        if not change.execute('DELETE FROM members WHERE channel_id = ? AND user_id = ?', (channel['id'], user_id)).rowcount:
            raise not_found()
        change.tell('gone', channel['id'], channel['id'], user_id)
        tell_loss(request.app, change, channel['id'])
        event = 'left' if user_id == request.user_id else 'removed'
        write_line(change, channel['id'], request.user_id, event=event, user_id=user_id)
    request.write(remove)
    return Reply(204)


@route('PATCH', '/channels/<channel>/me', limit='change')
def change_membership(request, channel, notify: OneOf('all', 'mentions', 'none') = None, hidden: Truth() = None,
                      favourite: Truth() = None):
    """Say how one wants to hear of a channel."""
    values = {name: value for name, value in (('notify', notify), ('hidden', hidden), ('favourite', favourite))
              if value is not None}

    def apply(change):
        require_joined(reload_channel(change, request, channel))
        for name, value in values.items():
            change.execute('UPDATE members SET %s = ? WHERE channel_id = ? AND user_id = ?' % name,
                           (value, channel['id'], request.user_id))
        tell_mine(change, channel['id'], request.user_id)
        return channel_reply(request, change, channel['id'])
    return request.write(apply)


@route('POST', '/channels/<channel>/read', limit='read')
def mark_read(request, channel, message_id: Whole(0), back: Truth() = False):
    """Say up to which message one has read; without `back` the mark only rises."""
    def mark(change):
        before = reload_channel(change, request, channel)
        require_joined(before)
        move_mark(change, request.user_id, before, message_id, back)
    require_joined(channel)
    if back or message_id > channel['read_to']:
        request.write(mark)
    return Reply(204)


@route('POST', '/me/read', limit='change')
def mark_all_read(request, message_id: Whole(0)):
    """Mark all channels one is in as read up to a message; what came after it stays new."""
    def mark(change):
        for channel in membership_rows(change, request.user_id):
            move_mark(change, request.user_id, channel, message_id)
    request.write(mark)
    return Reply(204)


def move_mark(change, user_id, channel, message_id, back=False):
    """Set a member's mark, at most to the last message there is, and tell; nothing where it would not rise."""
    read_to = min(message_id, last_message(change, channel['id']))
    if read_to > channel['read_to'] or back and read_to < channel['read_to']:
        change.execute('UPDATE members SET read_to = ? WHERE channel_id = ? AND user_id = ?',
                       (read_to, channel['id'], user_id))
        tell_mine(change, channel['id'], user_id)
        change.tell('read', channel['id'], channel['id'], user_id)


# -- direct channels

@route('POST', '/direct', limit='change')
def open_direct(request, users: ListOf(Id, MOST_IN_GROUP)):
    """The direct channel of these people and oneself; made at the first time, the same ever after."""
    people = sorted({request.user_id, *users})

    def open_one(change):
        if len(people) > MOST_IN_GROUP:
            raise Refusal(400, 'bad_field', 'A direct conversation has at most %d people.' % MOST_IN_GROUP, 'users')
        require_people(change, people)
        channel_id, is_new = find_direct(change, request.user_id, people)
        return channel_reply(request, change, channel_id, 201 if is_new else 200)
    return request.write(open_one)


def find_direct(change, user_id, people):
    """The direct channel of these people, in the order of their ids, for one of them; returns its id, and whether it is new."""
    key = '-'.join(map(str, people))
    row = change.execute('SELECT id FROM channels WHERE direct_key = ?', (key,)).fetchone()
    if row:
        unhide(change, row['id'], 'user_id = %d' % user_id)
        return row['id'], False
    channel_id = add_channel(change, 'direct', user_id, direct_key=key)
    tell_channel(change, channel_id)
    for one in people:
        add_member(change, channel_id, one)
    return channel_id, True


def unhide(change, channel_id, whom):
    """Bring a hidden channel back into the sidebars of its members."""
    for row in change.execute('SELECT user_id FROM members WHERE channel_id = ? AND hidden AND ' + whom,
                              (channel_id,)).fetchall():
        change.execute('UPDATE members SET hidden = 0 WHERE channel_id = ? AND user_id = ?', (channel_id, row['user_id']))
        tell_mine(change, channel_id, row['user_id'])


# ---- 11. MESSAGES ----------------------------------------------------

MOST_TEXT = 10000                # code points
MOST_FILES = 20
ERASED_AT_ONCE = 200
ASKED_AT_ONCE = 500              # ids in one query: older SQLite takes 999
PAGE = 50

PARTS = []                       # what messages carry: column that says whether, function(db, {message id: value})
POSTINGS = []                    # functions(app, change, message id, text), called for every new message of a person
REWORDINGS = []                  # functions(app, change, row) before and after the words of a message change

CODE = re.compile(                                      # as static/js/text/markup.js reads it
    r'^[^\S\n]*```[^\S\n]*(?:[A-Za-z0-9_+#.-]+[^\S\n]*)?$.*?(?:^[^\S\n]*```[^\S\n]*$|\Z)'     # a block
    r'|^>[^\S\n]*```[^\S\n]*[A-Za-z0-9_+#.-]*$(?:\n>(?!\s*```).*?$)*'                     # a block in a quote
    r'|\\[\\`*_~\[\]#>|@-]'                                                          # a letter that stands for itself
    r'|(`{1,2})(?!`)[^\n]+?\1(?!`)', re.DOTALL | re.MULTILINE)                       # within a line
MENTION = re.compile(r'(?<![^\W_])https?://[^\s<>"]+|(?<![^\W_])(?<!@)@([A-Za-z0-9_-]{1,32})')    # none within an address


def find_message(db, user_id, role, message_id):
    """A message row, if the user may see it; else it is not there."""
    row = db.execute('SELECT * FROM messages WHERE id = ?', (message_id,)).fetchone()
    if row is None:
        raise not_found()
    channel = find_channel(db, user_id, role, row['channel_id'])
    if channel['joined'] is not None and row['id'] <= channel['since_message']:
        raise not_found()
    return row


@loader('message')
def load_message(request, text):
    return find_message(request.db, request.user_id, request.role, path_id(text))


def message_values(db, rows):
    """Messages as everybody who may see them sees them."""
    values = collections.OrderedDict((row['id'], {
        'id': row['id'], 'channel_id': row['channel_id'], 'user_id': row['user_id'], 'kind': row['kind'],
        'data': json.loads(row['data']) if row['data'] else None, 'client_id': row['client_id'], 'text': row['text'],
        'reply_to': row['reply_to'], 'files': [], 'previews': [], 'reactions': {}, 'mentions': json.loads(row['mentions']),
        'pinned': row['pinned_at'] is not None, 'created_at': row['created_at'], 'edited_at': row['edited_at'],
        'deleted': bool(row['deleted'])}) for row in rows)
    for column, add_part in PARTS:
        concerned = [row['id'] for row in rows if row[column]]
        for place in range(0, len(concerned), ASKED_AT_ONCE):
            add_part(db, {message_id: values[message_id] for message_id in concerned[place:place + ASKED_AT_ONCE]})
    return list(values.values())


def add_files(db, values):
    for message_id, files in attached_files(db, list(values)).items():
        values[message_id]['files'] = files


PARTS.append(('attached', add_files))


def attached_files(db, message_ids):
    """Returns: {message id: its files in order}."""
    files = {}
    marks = ', '.join('?' * len(message_ids))
    for row in db.execute('SELECT attachments.message_id, files.* FROM attachments JOIN files ON files.id = file_id '
                          'WHERE attachments.message_id IN (%s) ORDER BY message_id, position' % marks, message_ids):
        files.setdefault(row['message_id'], []).append(file_value(row))
    return files


def file_value(row):
    return {'id': row['id'], 'key': row['key'], 'name': row['name'], 'type': row['type'], 'size': row['size'],
            'width': row['width'], 'height': row['height'], 'seconds': row['seconds'], 'url': '/files/' + row['key'],
            'removed': row['removed_at'] is not None}


@show('message', readers)
def show_message(app, db, event):
    row = db.execute('SELECT * FROM messages WHERE id = ?', (event.ref,)).fetchone()
    return row and message_values(db, [row])[0]


def message_reply(db, status, event):
    """The answer to a write: the message as its event has just shown it to everybody."""
    if event.wire is None:
        return one_message(db, event.ref, status)
    return Reply(status, content=b'{"message":' + value_of(event) + b'}')


# -- mentions

def find_mentions(db, text, channel_id, may_call_all):
    """Who is named in a text, outside of code and addresses: ids of members, "everyone", "here"."""
    names = {name.lower() for name in MENTION.findall(CODE.sub(' ', text)) if name}
    called = [name for name in ('everyone', 'here') if may_call_all and name in {one.rstrip('-_') for one in names}]
    ids = members_by_name(db, channel_id, sorted({*names, *(name.rstrip('-_') for name in names)}))
    named = {ids.get(name) or ids.get(name.rstrip('-_')) for name in names}      # a dash may end the sentence, not the name
    return sorted(named - {None}) + called


def members_by_name(db, channel_id, names):
    """Those of a channel's members who bear one of these names: {name: id}."""
    ids = {}
    for place in range(0, len(names), ASKED_AT_ONCE):
        keys = names[place:place + ASKED_AT_ONCE]
        rows = db.execute('SELECT id, username_key FROM accounts JOIN members ON members.user_id = accounts.id '
                          'WHERE channel_id = ? AND username_key IN (%s)' % ', '.join('?' * len(keys)), [channel_id] + keys)
        ids.update((row['username_key'], row['id']) for row in rows)
    return ids


def store_mentions(change, message_id, channel_id, mentions):
    change.execute('DELETE FROM mentions WHERE message_id = ?', (message_id,))
    for user_id in {EVERYONE if isinstance(one, str) else one for one in mentions}:
        change.insert('mentions', user_id=user_id, channel_id=channel_id, message_id=message_id)


# -- posting

@route('POST', '/channels/<channel>/messages', limit='send')
def post_message(request, channel, text: Text(0, MOST_TEXT), client_id: ClientId, reply_to: Maybe(Id) = None,
                 files: ListOf(Id, MOST_FILES) = ()):
    """Post a message to a channel one is in; the same client_id again is the same message."""
    require_words(text, files)
    request_hash = digest(json.dumps([channel['id'], text, reply_to, list(files)]))[:16]

    def post(change):
        before = change.execute('SELECT id, channel_id, request_hash FROM messages WHERE user_id = ? AND client_id = ?',
                                (request.user_id, client_id)).fetchone()
        if before:
            return 200, repeat(change, before, request_hash)
        require_posting(request, reload_channel(change, request, channel))
        require_quote(change, request, channel, reply_to)
        event = add_message(request.app, change, channel, request.user_id, text, request.at_least('member'),
                            client_id=client_id, request_hash=request_hash, reply_to=reply_to, attached=len(files))
        attach(change, request.user_id, request.role, event.ref, files)
        return 201, event
    status, event = request.write(post)
    return message_reply(request.db, status, event) if status == 201 else one_message(request.db, event)


def add_message(app, change, channel, user_id, text, may_call_all, **values):
    """Put a message into a channel; returns the event that tells of it."""
    mentions = find_mentions(change, text, channel['id'], may_call_all) if '@' in text else []
    message_id = change.insert('messages', channel_id=channel['id'], user_id=user_id, kind='text', text=text,
                               mentions=json.dumps(mentions), created_at=change.now, **values)
    if mentions:
        store_mentions(change, message_id, channel['id'], mentions)
    if channel['kind'] == 'direct':
        unhide(change, channel['id'], '1')
    for follow in POSTINGS:
        follow(app, change, message_id, text)
    return change.tell('message', message_id, channel['id'])


def require_words(text, files):
    if not text.strip() and (text or not files):
        raise Refusal(400, 'bad_field', 'The field text needs words, or the message a file.', 'text')


def repeat(change, before, request_hash):
    """The message that a repeated request made; returns its id."""
    if before['request_hash'] != request_hash:
        raise Refusal(409, 'client_id_used', 'This client_id belongs to another message.', 'client_id')
    return before['id']


def one_message(db, message_id, status=200):
    row = db.execute('SELECT * FROM messages WHERE id = ?', (message_id,)).fetchone()
    return Reply(status, {'message': message_values(db, [row])[0]})


def require_posting(request, channel):
    require_open(channel)
    if channel['posting'] == 'admins' and not request.at_least('admin'):
        raise forbidden('Only administrators write in this channel.')


def require_quote(change, request, channel, reply_to):
    if reply_to is None:
        return
    try:
        quoted = find_message(change, request.user_id, request.role, reply_to)
    except Refusal:
        quoted = None
    if quoted is None or quoted['channel_id'] != channel['id']:
        raise Refusal(400, 'bad_field', 'The message to reply to is not in this channel.', 'reply_to')


def attach(change, user_id, role, message_id, file_ids):
    """Have a message carry files: one's own, or those of a message that one may see and passes on."""
    for position, file_id in enumerate(file_ids):
        own = change.execute('UPDATE files SET posted = 1 WHERE id = ? AND user_id = ?', (file_id, user_id))
        if not own.rowcount and not is_carried_in_sight(change, user_id, role, file_id):
            raise Refusal(400, 'no_such_file', 'There is no file %d of yours.' % file_id, 'files')
        change.insert('attachments', message_id=message_id, position=position, file_id=file_id)


def is_carried_in_sight(db, user_id, role, file_id):
    """Whether the user may see a message that carries the file."""
    for carrier in db.execute('SELECT message_id FROM attachments WHERE file_id = ?', (file_id,)).fetchall():
        with contextlib.suppress(Refusal):
            return bool(find_message(db, user_id, role, carrier['message_id']))
    return False


# -- changing

@route('GET', '/messages/<message>')
def get_message(request, message):
    """One message."""
    return one_message(request.db, message['id'])


@route('PATCH', '/messages/<message>', limit='send')
def edit_message(request, message, text: Text(0, MOST_TEXT)):
    """Edit one's own message."""
    def edit(change):
        row = require_own(change, request, message)
        require_words(text, row['attached'])
        mentions = find_mentions(change, text, row['channel_id'], request.at_least('member'))
        reword(request.app, change, row, text=text, mentions=json.dumps(mentions), edited_at=change.now)
        store_mentions(change, row['id'], row['channel_id'], mentions)
        return change.tell('message', row['id'], row['channel_id'])
    return message_reply(request.db, 200, request.write(edit))


def require_own(change, request, message):
    """The message, if it may still be changed by its author."""
    row = find_message(change, request.user_id, request.role, message['id'])
    require_open(find_channel(change, request.user_id, request.role, row['channel_id']))
    if row['user_id'] != request.user_id or row['kind'] != 'text':
        raise forbidden('Only its author can edit a message.')
    if row['deleted']:
        raise Refusal(409, 'deleted', 'The message has been deleted.')
    return row


@route('DELETE', '/messages/<message>', limit='send')
def delete_message(request, message):
    """Delete a message: one's own, or as an administrator in the channel."""
    def delete(change):
        row = find_message(change, request.user_id, request.role, message['id'])
        channel = find_channel(change, request.user_id, request.role, row['channel_id'])
        require_open(channel)
        if row['kind'] != 'text' or row['user_id'] != request.user_id and not request.at_least('admin'):
            raise forbidden('Only its author or an administrator can delete a message.')
        if not row['deleted']:
            erase_message(request.app, change, row)
    request.write(delete)
    return Reply(204)


def reword(app, change, row, **values):
    """Change the words of a message, and have what is built on words follow."""
    for before, after in REWORDINGS:
        before(app, change, row)
    change.update('messages', row['id'], **values)
    row = change.execute('SELECT * FROM messages WHERE id = ?', (row['id'],)).fetchone()
    for before, after in REWORDINGS:
        after(app, change, row)


def erase_message(app, change, row):
    """Take the words, the mentions and the files of a message away; an empty one stays in its place."""
    reword(app, change, row, text='', mentions='[]', attached=0, reacted=0, pinned_at=None, deleted=1)
    drop_parts(app, change, row['id'])
    change.tell('message', row['id'], row['channel_id'])


def drop_parts(app, change, message_id):
    """Delete what hangs on the words of a message, its files included where no other carries them."""
    file_ids = [row['file_id'] for row in change.execute(
        'SELECT file_id FROM attachments WHERE message_id = ?', (message_id,))]
    for table in ('mentions', 'reactions', 'attachments'):
        change.execute('DELETE FROM %s WHERE message_id = ?' % table, (message_id,))
    for file_id in file_ids:
        drop_file(app, change, file_id)


def erase_some_messages(app, change, user_id, after):
    rows = change.execute("SELECT * FROM messages WHERE user_id = ? AND id > ? AND kind = 'text' AND deleted = 0 "
                          "ORDER BY id LIMIT ?", (user_id, after, ERASED_AT_ONCE)).fetchall()
    for row in rows:
        erase_message(app, change, row)
    return rows[-1]['id'] if rows else None


ERASURES.append(erase_some_messages)


def drop_file(app, change, file_id):
    """Forget a file that no message carries any more, and unlink it once that is on disk."""
    if change.execute('SELECT 1 FROM attachments WHERE file_id = ?', (file_id,)).fetchone() is None:
        row = change.execute('SELECT key FROM files WHERE id = ?', (file_id,)).fetchone()
        change.execute('DELETE FROM files WHERE id = ?', (file_id,))
        change.afterwards(lambda: unlink(app.file_path(row['key'])))


# -- paging

@route('GET', '/channels/<channel>/messages', limit='read')
def get_messages(request, channel, before: Whole(0) = None, after: Whole(0) = None, around: Whole(0) = None,
                 limit: Whole(1, 200) = PAGE):
    """A page of messages in ascending order: the newest, or those before, after or around an id."""
    if sum(edge is not None for edge in (before, after, around)) > 1:
        raise Refusal(400, 'bad_field', 'Give only one of before, after and around.', 'around')
    pages, edge = Pages(request.db, channel), LARGEST if before is None else before
    if around is not None:
        earlier = pages.before(around + 1, (limit + 1) // 2)
        rows = earlier + pages.after(around, limit - len(earlier))
    elif after is not None:
        rows = pages.after(after, limit)
    else:
        rows = pages.before(edge, limit)
    return Reply(200, {'messages': message_values(request.db, rows),
                       'more_before': bool(pages.before(rows[0]['id'] if rows else (after or 0) + 1, 1)),
                       'more_after': bool(pages.after(rows[-1]['id'] if rows else edge - 1, 1))})


class Pages:
    """The messages of a channel that a member may see, in pages."""

    def __init__(self, db, channel):
        self.db, self.channel_id, self.since = db, channel['id'], channel['since_message'] or 0

    def before(self, edge, limit):
        rows = self.db.execute('SELECT * FROM messages WHERE channel_id = ? AND id < ? AND id > ? '
                               'ORDER BY id DESC LIMIT ?', (self.channel_id, edge, self.since, limit)).fetchall()
        return rows[::-1]

    def after(self, edge, limit):
        return self.db.execute('SELECT * FROM messages WHERE channel_id = ? AND id > ? ORDER BY id LIMIT ?',
                               (self.channel_id, max(edge, self.since), limit)).fetchall()


# -- what waits for one

UNREAD_SHOWN = 20                # of each channel


@route('GET', '/me/unread', limit='read')
def get_unread(request):
    """The first unread messages of each channel that one has neither muted nor hidden, ascending within a channel."""
    rows = []
    for channel in membership_rows(request.db, request.user_id):
        if channel['notify'] != 'none' and not channel['hidden']:
            rows += request.db.execute(
                "SELECT * FROM messages WHERE channel_id = ? AND id > ? AND user_id <> ? AND kind <> 'system' AND deleted = 0 "
                'ORDER BY id LIMIT ?', (channel['id'], max(channel['read_to'], channel['since_message']), request.user_id,
                                        UNREAD_SHOWN)).fetchall()
    return Reply(200, {'messages': message_values(request.db, rows)})


@route('GET', '/me/mentions', limit='read')
def get_mentions(request, before: Whole(0) = LARGEST, limit: Whole(1, 200) = PAGE):
    """The messages of others that name one, or everybody, in the channels one is in, newest first."""
    rows = request.db.execute(
        'SELECT * FROM messages WHERE id IN (SELECT message_id FROM members JOIN mentions '
        'ON mentions.channel_id = members.channel_id AND mentions.user_id IN (?, ?) WHERE members.user_id = ? '
        'AND message_id > since_message AND message_id < ?) AND user_id <> ? AND deleted = 0 ORDER BY id DESC LIMIT ?',
        (request.user_id, EVERYONE, request.user_id, before, request.user_id, limit + 1)).fetchall()
    return Reply(200, {'messages': message_values(request.db, rows[:limit]), 'more': len(rows) > limit})


# ---- 12. REACTIONS AND PINS ------------------------------------------

MOST_EMOJI, MOST_PINS, MOST_SAVED = 50, 50, 1000
EMOJI_PARTS = frozenset('\u200d\u20e3\ufe0e\ufe0f\u2139')    # joiner, keycap, presentations (Unicode TS 51); a letter: information


def add_reactions(db, values):
    """Put the reactions into messages, by id: {emoji: [user ids]} in the order in which they came."""
    for row in db.execute('SELECT message_id, emoji, user_id FROM reactions WHERE message_id IN (%s) ORDER BY id'
                          % ', '.join('?' * len(values)), list(values)):
        values[row['message_id']]['reactions'].setdefault(row['emoji'], []).append(row['user_id'])


PARTS.append(('reacted', add_reactions))


@loader('emoji')
def load_emoji(request, text):
    """An emoji is a short run of symbols: no letters, no spaces, and digits only as keycaps."""
    if len(text) > 16 or max(text) < '\xa9' or not all(is_emoji_part(letter) for letter in text):
        raise Refusal(400, 'bad_emoji', 'This is not an emoji.', 'emoji')
    return text


def is_emoji_part(letter):
    tag = '\U000e0020' <= letter <= '\U000e007f'         # in the flags of regions
    picture = '\U0001f300' <= letter <= '\U0001faff'     # also those that are younger than this Python
    return tag or picture or letter in EMOJI_PARTS or unicodedata.category(letter)[0] not in 'LZC'


def change_message_parts(request, message, alter):
    """Run alter(change, row) on a message in an open channel of one's own, and tell of it if it returns true."""
    def apply(change):
        row = find_message(change, request.user_id, request.role, message['id'])
        require_open(find_channel(change, request.user_id, request.role, row['channel_id']))
        if row['deleted']:
            raise Refusal(409, 'deleted', 'The message has been deleted.')
        if alter(change, row):
            change.tell('message', row['id'], row['channel_id'])
    request.write(apply)
    return Reply(204)


@route('PUT', '/messages/<message>/reactions/<emoji>', limit='send')
def react(request, message, emoji):
    """React to a message."""
    def add(change, row):
        known = {one['emoji'] for one in change.execute('SELECT DISTINCT emoji FROM reactions WHERE message_id = ?',
                                                        (row['id'],))}
        if emoji not in known and len(known) >= MOST_EMOJI:
            raise Refusal(409, 'too_many', 'A message can have %d different reactions.' % MOST_EMOJI)
        change.update('messages', row['id'], reacted=1)
        return change.execute('INSERT OR IGNORE INTO reactions (message_id, emoji, user_id) VALUES (?, ?, ?)',
                              (row['id'], emoji, request.user_id)).rowcount
    return change_message_parts(request, message, add)


@route('DELETE', '/messages/<message>/reactions/<emoji>', limit='send')
def take_back_reaction(request, message, emoji):
    """Take one's reaction back."""
    def remove(change, row):
        return change.execute('DELETE FROM reactions WHERE message_id = ? AND emoji = ? AND user_id = ?',
                              (row['id'], emoji, request.user_id)).rowcount
    return change_message_parts(request, message, remove)


@route('PUT', '/messages/<message>/pin', limit='send')
def pin_message(request, message):
    """Pin a message in its channel, for everybody there."""
    def pin(change, row):
        if row['pinned_at'] is not None:
            return False
        if len(pinned_rows(change, row['channel_id'], 0)) >= MOST_PINS:
            raise Refusal(409, 'too_many', 'A channel can have %d pinned messages. Take one down first.' % MOST_PINS)
        change.update('messages', row['id'], pinned_at=change.now)
        return True
    return change_message_parts(request, message, pin)


@route('DELETE', '/messages/<message>/pin', limit='send')
def unpin_message(request, message):
    """Take a pinned message down."""
    def unpin(change, row):
        change.update('messages', row['id'], pinned_at=None)
        return row['pinned_at'] is not None
    return change_message_parts(request, message, unpin)


def pinned_rows(db, channel_id, since):
    return db.execute('SELECT * FROM messages WHERE channel_id = ? AND id > ? AND pinned_at IS NOT NULL ORDER BY id DESC',
                      (channel_id, since)).fetchall()


@route('GET', '/channels/<channel>/pins')
def get_pins(request, channel):
    """The pinned messages of a channel that one may see, newest first."""
    rows = pinned_rows(request.db, channel['id'], channel['since_message'] or 0)
    return Reply(200, {'messages': message_values(request.db, rows)})


@route('GET', '/messages/<message>/readers')
def get_readers(request, message):
    """Who has read a message: those in the channel whose mark has come so far, but for its author."""
    rows = request.db.execute('SELECT user_id FROM members WHERE channel_id = ? AND read_to >= ? AND since_message < ? '
                              'AND user_id <> ? ORDER BY user_id',
                              (message['channel_id'], message['id'], message['id'], message['user_id']))
    return Reply(200, {'users': [row['user_id'] for row in rows]})


@route('GET', '/me/saved')
def get_saved(request):
    """The messages that one has saved and may still see, last saved first."""
    rows = []
    for saved in request.db.execute('SELECT message_id FROM saved WHERE user_id = ? ORDER BY id DESC',
                                    (request.user_id,)).fetchall():
        with contextlib.suppress(Refusal):
            rows.append(find_message(request.db, request.user_id, request.role, saved['message_id']))
    return Reply(200, {'messages': message_values(request.db, rows)})


@route('PUT', '/me/saved/<message>', limit='change')
def save_message(request, message):
    """Keep a message for oneself."""
    def keep(change):
        change.execute('INSERT OR IGNORE INTO saved (user_id, message_id) VALUES (?, ?)', (request.user_id, message['id']))
        count = change.execute('SELECT count(*) FROM saved WHERE user_id = ?', (request.user_id,)).fetchone()[0]
        if count > MOST_SAVED:
            raise Refusal(409, 'too_many', 'You can save %d messages. Let one go first.' % MOST_SAVED)
    request.write(keep)
    return Reply(204)


@route('DELETE', '/me/saved/<number>', limit='change')
def unsave_message(request, message_id):
    """Let a saved message go, also one that one may not see any more."""
    request.write(lambda change: change.execute(
        'DELETE FROM saved WHERE user_id = ? AND message_id = ?', (request.user_id, message_id)))
    return Reply(204)


# ---- 13. FILES -------------------------------------------------------

SPARE_BYTES, SPARE_SHARE = 200 * 10 ** 6, 0.02      # of the disk, never filled by uploads
PIECE = 262144
UNPOSTED_SECONDS = 24 * 3600
FILE_POLICY = "sandbox; default-src 'none'"
MOST_SEGMENTS = 1000             # of a JPEG, looked at: colour profiles and previews come in many
PICTURES = ('image/png', 'image/jpeg', 'image/gif', 'image/webp')
TURNS = re.compile('[\u202a-\u202e\u2066-\u2069]')     # embeddings, overrides and isolates of the direction of writing

INLINE = frozenset(PICTURES + (  # types that a browser may show by itself; everything else is a download
    'audio/mpeg', 'audio/ogg', 'audio/wav', 'audio/flac',
    'audio/mp4', 'audio/webm', 'video/mp4', 'video/webm'))

SIGNATURES = (                   # offset, bytes, type
    (0, b'\x89PNG\r\n\x1a\n', 'image/png'), (0, b'\xff\xd8\xff', 'image/jpeg'),
    (0, b'GIF87a', 'image/gif'), (0, b'GIF89a', 'image/gif'), (8, b'WEBPVP8', 'image/webp'), (8, b'WAVEfmt', 'audio/wav'),
    (0, b'ID3', 'audio/mpeg'), (0, b'\xff\xfb', 'audio/mpeg'), (0, b'\xff\xf3', 'audio/mpeg'), (0, b'OggS', 'audio/ogg'),
    (0, b'fLaC', 'audio/flac'), (4, b'ftypM4A', 'audio/mp4'), (4, b'ftyp', 'video/mp4'),
    (0, b'\x1aE\xdf\xa3', 'video/webm'), (0, b'%PDF-', 'application/pdf'), (0, b'PK\x03\x04', 'application/zip'))


def type_by_bytes(start):
    """What the first bytes of a file prove it to be; its name proves nothing."""
    for offset, magic, file_type in SIGNATURES:
        if start.startswith(magic, offset) and (offset != 8 or start.startswith(b'RIFF')):
            return file_type
    try:
        start[:-4].decode('utf-8')
    except UnicodeDecodeError as error:
        if error.end < len(start) - 8:
            return 'application/octet-stream'
    return 'application/octet-stream' if b'\0' in start else 'text/plain'


def image_size(file, file_type):
    """Width and height of a picture as it is shown, or two None where its bytes do not tell."""
    measure = {'image/png': png_size, 'image/gif': gif_size, 'image/webp': webp_size, 'image/jpeg': jpeg_size}.get(file_type)
    try:
        width, height = measure(file) if measure else (None, None)
    except (struct.error, ValueError, IndexError):
        return None, None
    return (width, height) if width and height else (None, None)


def png_size(file):
    """PNG, second edition, section 11.2.2."""
    return struct.unpack_from('>II', file.read(24), 16)


def gif_size(file):
    """GIF89a, section 18."""
    return struct.unpack_from('<HH', file.read(10), 6)


def webp_size(file):
    """RFC 9649: lossy (RFC 6386 section 9.1), lossless, extended."""
    head = file.read(30)
    if head[12:16] == b'VP8X':
        return 1 + int.from_bytes(head[24:27], 'little'), 1 + int.from_bytes(head[27:30], 'little')
    if head[12:16] == b'VP8L':
        bits = int.from_bytes(head[21:25], 'little')
        return 1 + (bits & 0x3fff), 1 + (bits >> 14 & 0x3fff)
    width, height = struct.unpack_from('<HH', head, 26)
    return width & 0x3fff, height & 0x3fff


def jpeg_size(file):
    """ITU T.81 annex B: walk the segments to the frame header; a picture that lies on its side is turned."""
    file.read(2)
    turned = False
    for _ in range(MOST_SEGMENTS):
        mark, kind, length = struct.unpack('>BBH', file.read(4))
        if mark != 0xff or length < 2:
            raise ValueError('not a segment')
        if 0xc0 <= kind <= 0xcf and kind not in (0xc4, 0xc8, 0xcc):
            height, width = struct.unpack_from('>xHH', file.read(5))
            return (height, width) if turned else (width, height)
        segment = file.read(length - 2)
        if kind == 0xe1 and segment.startswith(b'Exif\0\0'):
            with contextlib.suppress(struct.error):      # a broken note about the picture is no broken picture
                turned = exif_orientation(segment[6:]) >= 5
    raise ValueError('too many segments before the picture')


def exif_orientation(tiff):
    """The orientation tag 0x0112 of the first directory (TIFF 6.0 section 2); 1 where there is none."""
    order = '<' if tiff[:2] == b'II' else '>'
    directory, = struct.unpack_from(order + 'I', tiff, 4)
    count, = struct.unpack_from(order + 'H', tiff, directory)
    for number in range(count):
        tag, value = struct.unpack_from(order + 'HxxxxxxH', tiff, directory + 2 + 12 * number)
        if tag == 0x0112:
            return value
    return 1


# -- sound and film

MOST_CHUNKS = 100                # of a file, looked at: enough for what recorders write
MEDIA_HEAD = 16384               # where WebM tells what it holds
OGG_TAIL = 65536                 # a page of Ogg is smaller (RFC 3533 section 6)
LONGEST_MEDIA = 10 ** 7          # seconds; what claims more is broken


def media_seconds(file, file_type):
    """The length of sound or film in seconds, or None where the bytes do not tell without being played."""
    measure = {'audio/wav': wav_seconds, 'audio/flac': flac_seconds, 'audio/ogg': ogg_seconds, 'audio/mp4': mp4_seconds,
               'video/mp4': mp4_seconds, 'video/webm': webm_seconds}.get(file_type)
    try:
        file.seek(0)
        seconds = measure(file) if measure else None
    except (struct.error, ValueError, IndexError, KeyError, ZeroDivisionError):
        return None
    return round(seconds, 3) if seconds and 0 < seconds < LONGEST_MEDIA else None


def media_type(file, file_type):
    """The type of a container once one has looked for pictures in it: what only sounds is sound."""
    sounds_alone = {'video/mp4': mp4_sounds_alone, 'video/webm': webm_sounds_alone}.get(file_type)
    try:
        file.seek(0)
        return file_type.replace('video', 'audio') if sounds_alone and sounds_alone(file) else file_type
    except (struct.error, ValueError):
        return file_type


def wav_seconds(file):
    """RIFF (RFC 2361): the bytes of sound by the bytes a second."""
    size, start, rate = file.seek(0, os.SEEK_END), 12, 0
    for _ in range(MOST_CHUNKS):
        file.seek(start)
        kind, length = struct.unpack('<4sI', file.read(8))
        if kind == b'fmt ':
            rate, = struct.unpack_from('<I', file.read(12), 8)
        if kind == b'data':
            return min(length, size - start - 8) / rate
        start += 8 + length + length % 2


def flac_seconds(file):
    """RFC 9639 section 8.2: rate in 20 bits, number of samples in 36."""
    bits = int.from_bytes(file.read(26)[18:], 'big')
    return (bits & (1 << 36) - 1) / (bits >> 44)


def ogg_seconds(file):
    """The last page's granule position: Opus counts in 48 kHz (RFC 7845 section 4), Vorbis in its own rate (Vorbis I section 4.2.2)."""
    head = file.read(64)
    if head.startswith(b'OpusHead', 28):
        rate, before = 48000, struct.unpack_from('<H', head, 38)[0]
    elif head.startswith(b'\x01vorbis', 28):
        rate, before = struct.unpack_from('<I', head, 40)[0], 0
    else:
        raise ValueError('another codec')
    file.seek(max(0, file.seek(0, os.SEEK_END) - OGG_TAIL))
    tail = file.read()
    return (struct.unpack_from('<q', tail, tail.rindex(b'OggS') + 6)[0] - before) / rate


def mp4_boxes(file, start, end):
    """(kind, where its content begins, where it ends) of each box in a row (ISO/IEC 14496-12 section 4.2)."""
    for _ in range(MOST_CHUNKS):
        if start + 8 > end:
            return
        file.seek(start)
        length, kind = struct.unpack('>I4s', file.read(8))
        head = 16 if length == 1 else 8
        length = struct.unpack('>Q', file.read(8))[0] if length == 1 else length or end - start
        if length < head:
            raise ValueError('not a box')
        yield kind, start + head, min(end, start + length)
        start += length


def mp4_contents(file, *path):
    """The first bytes of every box at a path of kinds."""
    places = [(0, file.seek(0, os.SEEK_END))]
    for wanted in path:
        places = [(first, last) for start, end in places[:MOST_CHUNKS]
                  for kind, first, last in mp4_boxes(file, start, end) if kind == wanted]
    for start, end in places:
        file.seek(start)
        yield file.read(min(32, end - start))


def mp4_seconds(file):
    """The movie header (ISO/IEC 14496-12 section 8.2.2), or what the fragments come to (section 8.8.2)."""
    for head in mp4_contents(file, b'moov', b'mvhd'):
        scale, length = struct.unpack_from('>IQ', head, 20) if head[0] else struct.unpack_from('>II', head, 12)
        for more in [] if length else mp4_contents(file, b'moov', b'mvex', b'mehd'):
            length, = struct.unpack_from('>Q' if more[0] else '>I', more, 4)
        return length / scale


def mp4_sounds_alone(file):
    """By the kinds of the tracks (ISO/IEC 14496-12 section 8.4.3)."""
    kinds = {content[8:12] for content in mp4_contents(file, b'moov', b'trak', b'mdia', b'hdlr')}
    return b'soun' in kinds and b'vide' not in kinds


def ebml_elements(data):
    """(id, content) of each element in a row (RFC 8794 section 5); an unknown size reaches to the end."""
    at = 0
    while at < len(data):
        size_at = at + 9 - data[at].bit_length()
        start = size_at + 9 - data[size_at].bit_length()
        size = int.from_bytes(data[size_at:start], 'big') & (1 << 7 * (start - size_at)) - 1
        yield data[at:size_at], data[start:start + size]
        at = start + size


def webm_seconds(file):
    """The segment's own Info (RFC 9559 section 5.1.2); recorders that stream leave it out."""
    segment = dict(ebml_elements(file.read(MEDIA_HEAD)))[b'\x18\x53\x80\x67']
    for element, content in ebml_elements(segment):
        if element == b'\x15\x49\xa9\x66':
            info = dict(ebml_elements(content))
            scale, length = info.get(b'\x2a\xd7\xb1', b'\x0f\x42\x40'), info[b'\x44\x89']
            return struct.unpack('>d' if len(length) == 8 else '>f', length)[0] * int.from_bytes(scale, 'big') / 10 ** 9


def webm_sounds_alone(file):
    """By the names of the codecs (RFC 9559 section 5.1.4.1.22)."""
    head = file.read(MEDIA_HEAD)
    return b'A_' in head and not re.search(rb'V_[A-Z]', head)


# -- upload

@route('POST', '/files', limit='upload', lane='thread', body='raw')
def upload_file(request, name: Line(1, 255)):
    """Bring a file: the raw bytes are the body. It is gone after 24 hours unless a message carries it."""
    require_room(request, request.app.settings.max_upload_size_mb)
    key = token(request.app.random_bytes, 18)
    path = request.app.file_path(key)
    with file_kept(path):
        receive_file(request, path)
        file_type = file_type_of(path)
        with open(path, 'rb') as file:
            width, height = image_size(file, file_type)
            file_type, seconds = media_type(file, file_type), media_seconds(file, file_type)

    def keep(change):
        file_id = change.insert(
            'files', key=key, user_id=request.user_id, name=file_name(name),
            type=file_type, size=request.length, width=width, height=height, seconds=seconds,
            created_at=change.now, created_second=request.app.service.seconds())
        return file_value(change.execute('SELECT * FROM files WHERE id = ?', (file_id,)).fetchone())
    with file_kept(path):
        return Reply(201, {'file': request.write(keep)})


def file_name(name):
    """The last part of a path, without what turns letters around: a program could read like a picture (Unicode TR 36, 2.10.2)."""
    name = TURNS.sub('_', os.path.basename(name.replace('\\', '/')))
    return name if name.strip('. ') else 'file'


@contextlib.contextmanager
def file_kept(path):
    """Remove a file that does not come to its end, and say so where the disk is at fault."""
    try:
        yield
    except BaseException as error:
        unlink(path)
        if isinstance(error, OSError):
            raise storage_refusal('full' if error.errno in (errno.ENOSPC, errno.EDQUOT) else error)
        raise


def file_type_of(path):
    with open(path, 'rb') as file:
        return type_by_bytes(file.read(4096))


def require_room(request, limit):
    """Refuse before reading: larger than so many MB, empty, or no room on the disk."""
    if 'content-length' not in request.headers:
        raise Refusal(411, 'length_needed', 'Send the Content-Length of the file.')
    if request.length > limit * 10 ** 6:
        raise Refusal(413, 'too_large', 'Files can have up to %d MB here.' % limit)
    if request.length == 0:
        raise Refusal(400, 'empty_file', 'The file is empty.')
    require_space(request.app, request.length)


def require_space(app, coming):
    """Uploads leave the disk some room, so that messages can still be written."""
    disk = shutil.disk_usage(app.folder)
    if disk.free - coming < spare_bytes(disk):
        raise storage_refusal('full')


def spare_bytes(disk):
    """What is kept free of a disk."""
    return int(max(SPARE_BYTES, min(SPARE_SHARE * disk.total, 10 * SPARE_BYTES)))


def receive_file(request, path):
    """Keep the body so that it lasts, with a look at the room on the disk before each piece: TLS brings it in crumbs of 16 KB."""
    with open(path, 'xb') as file:
        for left in range(request.length, 0, -PIECE):
            require_space(request.app, left)
            receive_piece(request, file, min(PIECE, left))
        sync_file(file)
    sync_folder(os.path.dirname(path))


def receive_piece(request, file, left):
    while left:
        crumb = request.receive(left)
        file.write(crumb)
        left -= len(crumb)


# -- download

@loader('file')
def load_file(request, key):
    """A file belongs to its uploader until it is posted, then to those who may see a message that carries it."""
    row = request.db.execute('SELECT * FROM files WHERE key = ?', (key,)).fetchone()
    if row is None:
        raise not_found()
    is_own = row['user_id'] == request.user_id
    if not (is_carried_in_sight(request.db, request.user_id, request.role, row['id']) if row['posted'] else is_own):
        raise not_found()
    return row


@route('GET', '/files/<file>')
def get_file(request, file):
    """The bytes of a file, or a part of them."""
    etag = '"%s"' % file['key']
    headers = [('ETag', etag), ('Cache-Control', 'private, no-cache'), ('Accept-Ranges', 'bytes'),
               ('Content-Security-Policy', FILE_POLICY), ('Content-Disposition', disposition(file))]
    if has_already(request, etag):
        return Reply(304, content=b'', headers=headers)
    part = read_range(request, file['size'], etag)
    start, length = part or (0, file['size'])
    if part:
        headers.append(('Content-Range', 'bytes %d-%d/%d' % (start, start + length - 1, file['size'])))
    path = request.app.file_path(file['key'])
    if not os.path.exists(path):
        raise not_found()
    file_type = file['type'] if file['type'] in INLINE else 'application/octet-stream'
    return FileReply(206 if part else 200, path, start, length, headers, file_type)


def disposition(file):
    """RFC 6266, the name as RFC 8187 says; older readers get an ASCII one with the odd characters tamed."""
    plain = re.sub(r'[^A-Za-z0-9._ -]', '_', file['name'])
    return '%s; filename="%s"; filename*=UTF-8\'\'%s' % (
        'inline' if file['type'] in INLINE else 'attachment', plain, urllib.parse.quote(file['name'], safe=''))


# -- pictures of oneself

@route('PUT', '/me/avatar', limit='upload', lane='thread', body='raw')
def set_avatar(request):
    """Set one's picture: the raw bytes of a PNG, JPEG, GIF or WebP."""
    require_room(request, request.app.settings.max_avatar_size_mb)
    key = token(request.app.random_bytes, 9)
    path = request.app.avatar_path(key)
    with file_kept(path):
        receive_file(request, path)
        if file_type_of(path) not in PICTURES:
            raise Refusal(400, 'not_a_picture', 'Send a PNG, JPEG, GIF or WebP picture.')
    with file_kept(path):
        request.write(lambda change: change_avatar(request.app, change, request.user_id, key))
    return Reply(204)


@route('DELETE', '/me/avatar', limit='change')
def remove_avatar(request):
    """Take one's picture away."""
    request.write(lambda change: change_avatar(request.app, change, request.user_id, None))
    return Reply(204)


def change_avatar(app, change, user_id, key):
    drop_avatar(app, change, user_id)
    change.update('users', user_id, avatar=key)
    change.tell('user', user_id)


def drop_avatar(app, change, user_id):
    before = change.execute('SELECT avatar FROM users WHERE id = ?', (user_id,)).fetchone()['avatar']
    if before:
        change.afterwards(lambda: unlink(app.avatar_path(before)))


DEPARTURES.append(drop_avatar)


@route('GET', '/avatars/<user>')
def get_avatar(request, user, v: Text(0, 64) = ''):
    """Somebody's picture; v only tells caches one from the next."""
    path, etag = request.app.avatar_path(user['avatar'] or 'none'), '"%s"' % user['avatar']
    try:
        size, file_type = os.path.getsize(path), file_type_of(path)
    except OSError:
        raise not_found()
    headers = [('ETag', etag), ('Cache-Control', 'private, no-cache'), ('Content-Security-Policy', FILE_POLICY)]
    if has_already(request, etag):
        return Reply(304, headers=headers)
    return FileReply(200, path, 0, size, headers, file_type)


# -- what is swept away

def sweep_files(app, change):
    """Drop uploads that nobody posted within a day."""
    rows = change.execute('SELECT id FROM files WHERE posted = 0 AND created_second < ?',
                          (app.service.seconds() - UNPOSTED_SECONDS,)).fetchall()
    for row in rows:
        drop_file(app, change, row['id'])


def sweep_folders(app):
    """At the start: remove what interrupted uploads and deletions left behind."""
    for path, query in ((app.file_path, 'SELECT 1 FROM files WHERE key = ?'),
                        (app.avatar_path, 'SELECT 1 FROM users WHERE avatar = ?')):
        for name in os.listdir(path('')):
            if not app.store.reader().execute(query, (name,)).fetchone():
                unlink(path(name))


# ---- 14. SEARCH ------------------------------------------------------
#
# The index has a column for the words and one for the place: tokens for channel, author, file and link, so that
# permission and filters are part of the match. It can be lost: it is rebuilt from the messages, in small pieces.

FOUND_PAGE = 25
INDEX_PIECE = 1000               # messages indexed in one commit
PIECES_FIRST = 20                # indexed before a search, so that it finds what was just said in a hurry
SCANNED = 20000                  # the newest messages, of the channels asked for, looked through where the index cannot help
INDEX = ("CREATE VIRTUAL TABLE chat.words USING fts5("
         "text, place, content='', prefix='1 2 3', tokenize=\"unicode61 remove_diacritics 1\")")
OPERATOR = re.compile(r'(?<!\S)(from|in|before|after|has):(\S+)')
WANTED = re.compile(r'"[^"]*"?|[^\s"]+')
LINK = re.compile(r'https?://', re.IGNORECASE)
UNSPACED = re.compile('[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]')


def open_index(app, change):
    """At the start: find the index, or begin it anew; `has_index` of the app says whether this SQLite can have one."""
    begun = get_meta(change, 'indexed_to') not in (None, '0')
    app.has_index = begun and succeeds(change, 'SELECT rowid FROM words LIMIT 1')
    if not app.has_index:
        set_meta(change, 'indexed_to', '0')
        app.has_index = succeeds(change, 'DROP TABLE IF EXISTS chat.words') and succeeds(change, INDEX)


def succeeds(change, script):
    try:
        change.execute(script)
        return True
    except sqlite3.OperationalError:
        return False


STARTS.append(open_index)


def place_tokens(row):
    """The tokens of a message's place."""
    tokens = ['c%d' % row['channel_id'], 'u%d' % row['user_id']]
    return ' '.join(tokens + ['hasfile'] * bool(row['attached']) + ['haslink'] * bool(LINK.search(row['text'])))


def searched_text(db, row):
    names = [file['name'] for file in attached_files(db, [row['id']] if row['attached'] else []).get(row['id'], ())]
    return ' '.join([row['text']] + names)


def add_words(change, row):
    change.execute('INSERT INTO words (rowid, text, place) VALUES (?, ?, ?)',
                   (row['id'], searched_text(change, row), place_tokens(row)))


def index_some(app, change):
    """Index the next piece of messages; returns whether there may be more."""
    reached = int(get_meta(change, 'indexed_to'))
    rows = change.execute("SELECT * FROM messages WHERE id > ? ORDER BY id LIMIT ?", (reached, INDEX_PIECE)).fetchall()
    for row in rows:
        if row['kind'] == 'text' and not row['deleted']:
            add_words(change, row)
    if rows:
        set_meta(change, 'indexed_to', str(rows[-1]['id']))
    return len(rows) == INDEX_PIECE


def catch_up_index(app, pieces):
    """Index what has been posted since, at most so many pieces; now and then, and before each search."""
    db = app.store.reader()
    newest = db.execute('SELECT max(id) FROM messages').fetchone()[0] or 0
    more = app.has_index and newest > int(get_meta(db, 'indexed_to'))
    while more and pieces:
        more, pieces = app.store.write(functools.partial(index_some, app)), pieces - 1


def forget_words(app, change, row):
    """Take a message out of the index before it changes: an index without content must be told what it held."""
    if app.has_index and row['id'] <= int(get_meta(change, 'indexed_to')):
        change.execute("INSERT INTO words (words, rowid, text, place) VALUES ('delete', ?, ?, ?)",
                       (row['id'], searched_text(change, row), place_tokens(row)))


def learn_words(app, change, row):
    """Put a changed message back into the index."""
    if app.has_index and row['id'] <= int(get_meta(change, 'indexed_to')) and not row['deleted']:
        add_words(change, row)


REWORDINGS.append((forget_words, learn_words))


# -- asking

@route('GET', '/search', limit='search', lane='thread')
def search(request, q: Text(0, 500) = '', from_: Text(1, 64) = None, in_: Text(1, 64) = None, before: Text(1, 20) = None,
           after: Text(1, 20) = None, has: Text(1, 20) = None, page: Whole(1, 100) = 1):
    """Find messages, newest first; the filters also work inside q, as in from:ann in:#deck has:file before:2026-01-31."""
    filters = {'from': from_, 'in': in_, 'before': before, 'after': after, 'has': has}
    filters = {name: value for name, value in filters.items() if value is not None}
    filters.update(OPERATOR.findall(q))
    wanted = [(one.strip('"'), one.startswith('"')) for one in WANTED.findall(OPERATOR.sub(' ', q)) if one.strip('"')]
    if not wanted and not filters:
        return Reply(200, {'messages': [], 'more': False})
    with contextlib.suppress(Refusal):           # on a full disk one finds what was indexed before
        catch_up_index(request.app, PIECES_FIRST)
    rows = find_rows(request, wanted, filters, (page - 1) * FOUND_PAGE)
    return Reply(200, {'messages': message_values(request.db, rows[:FOUND_PAGE]), 'more': len(rows) > FOUND_PAGE})


def find_rows(request, wanted, filters, offset):
    """One page of what is wanted and one more, by the index or, where that cannot help, by looking through the newest."""
    channels = channel_rows(request.db, request.user_id, request.role)
    places = [PLACES[name](request, value, channels) for name, value in sorted(filters.items()) if name in PLACES]
    condition, values = time_condition(filters)
    condition += (' AND messages.id > coalesce((SELECT since_message FROM members '
                  'WHERE channel_id = messages.channel_id AND user_id = ?), 0)')     # a late joiner's past is not searched
    values.append(request.user_id)
    find = find_by_index if request.app.has_index and all(is_indexed(word) for word, _ in wanted) else find_by_looking
    return find(request.db, wanted, places + [['c%d' % row['id'] for row in channels]], condition, values, offset)


def is_indexed(word):
    """Whether the index knows such words: it splits at spaces, which not all scripts have."""
    return re.search(r'[^\W_]', word) and not UNSPACED.search(word)


def find_by_index(db, wanted, places, condition, values, offset):
    """Find by the index alone where the newest that match are not enough: the last place, one's own channels, is a long list."""
    if not all(places):
        return []
    terms = ['text : "%s"%s' % (word.replace('"', ''), '' if exact else ' *') for word, exact in wanted]
    terms += ['(%s)' % ' OR '.join('place : "%s"' % token for token in place) for place in places]
    found, is_all = find_among_newest(db, terms[:-1], set(places[-1]), condition, values, offset + FOUND_PAGE + 1)
    if is_all or len(found) > offset + FOUND_PAGE:
        return found[offset:]
    return db.execute('SELECT messages.* FROM words JOIN messages ON messages.id = words.rowid WHERE words MATCH ? '
                      'AND deleted = 0' + condition + ' ORDER BY words.rowid DESC LIMIT ? OFFSET ?',
                      [' AND '.join(terms)] + values + [FOUND_PAGE + 1, offset]).fetchall()


def find_among_newest(db, terms, own, condition, values, most):
    """Look through the newest that match for those in one's own channels; returns them, and whether there are no others."""
    if not terms:
        return [], False
    ids = [row['rowid'] for row in db.execute('SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid DESC LIMIT ?',
                                              [' AND '.join(terms), ASKED_AT_ONCE])]
    marks = ', '.join('?' * len(ids))
    rows = db.execute('SELECT * FROM messages WHERE id IN (%s) AND deleted = 0' % marks + condition + ' ORDER BY id DESC',
                      ids + values)
    found = itertools.islice((row for row in rows if 'c%d' % row['channel_id'] in own), most)
    return list(found), len(ids) < ASKED_AT_ONCE


def find_by_looking(db, wanted, places, condition, values, offset):
    if not all(places):
        return []
    asked = set.intersection(*[set(place) for place in places if place[0].startswith('c')])
    others = [place for place in places if not place[0].startswith('c')]
    newest = itertools.islice(newest_messages(db, [int(token[1:]) for token in asked], condition, values), SCANNED)
    found = (row for row in newest if is_at(row, others) and holds_words(searched_text(db, row).casefold(), wanted))
    return list(itertools.islice(found, offset, offset + FOUND_PAGE + 1))


def newest_messages(db, channel_ids, condition, values):
    """The messages of channels from the newest on, each read when it is asked for: no busy channel hides a quiet one."""
    query = "SELECT * FROM messages WHERE channel_id = ? AND kind = 'text' AND deleted = 0" + condition + ' ORDER BY id DESC'
    return heapq.merge(*[db.execute(query, [channel_id] + values) for channel_id in channel_ids],
                       key=lambda row: row['id'], reverse=True)


def is_at(row, places):
    """Whether a message's place is among each of these."""
    tokens = set(place_tokens(row).split())
    return all(tokens.intersection(place) for place in places)


def holds_words(text, wanted):
    return all(word.casefold() in text for word, _ in wanted)


def place_of_author(request, name, channels):
    account = find_account(request.db, name.lstrip('@'))
    return ['u%d' % account['id']] if account else []


def place_of_channel(request, name, channels):
    key = name.lstrip('#').casefold()
    return ['c%d' % row['id'] for row in channels if row['name_key'] == key]


def place_of_kind(request, name, channels):
    if name not in ('file', 'link'):
        raise Refusal(400, 'bad_field', 'The field has must be one of: file, link.', 'has')
    return ['has' + name]


PLACES = {'from': place_of_author, 'in': place_of_channel, 'has': place_of_kind}


def time_condition(filters):
    """SQL for before and after, which name days of the server's own calendar."""
    condition, values = '', []
    for name, comparison, days in (('before', '<', 0), ('after', '>=', 1)):
        if name in filters:
            condition += ' AND messages.created_at %s ?' % comparison
            values.append(start_of_day(name, filters[name], days))
    return condition, values


def start_of_day(name, text, days_later):
    try:
        day = datetime.datetime.strptime(text, '%Y-%m-%d') + datetime.timedelta(days=days_later)
        return int(time.mktime(day.timetuple()) * 1000)
    except (ValueError, OverflowError):
        raise Refusal(400, 'bad_field', 'The field %s must be a day such as 2026-01-31.' % name, name)


# ---- 15. PREVIEWS ----------------------------------------------------
#
# What a link leads to, in words. Nothing is ever asked unless the operator names its host, and then never at an
# address that is this machine's or a cloud's own: what a member writes must not become this server's request to itself.

PREVIEW_SECONDS, PREVIEW_BYTES = 5, 65536        # for one link in all
MOST_PREVIEWS, MOST_REDIRECTS = 3, 3             # of a message; of a link
MOST_WAITING = 100                               # messages: the rest goes without
USUAL_PORTS = {'http': 80, 'https': 443}
LONGEST_HOST = 253                               # characters (RFC 1035 section 2.3.4); to encode more takes long
WEB_ADDRESS = re.compile(r'https?://[^\s<>"]+', re.IGNORECASE)
AFTER_ADDRESS = '.,;:!?\'"*_~\xbb)]'                # closes a sentence or a mark, not an address
JOINERS = '\u200c\u200d'                         # unseen, but part of words and emoji

NEVER_ASKED = tuple(ipaddress.ip_network(one) for one in (
    '0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '192.0.0.0/24', '224.0.0.0/4', '240.0.0.0/4',      # RFC 6890
    '100.100.100.200/32', '168.63.129.16/32', 'fd00:ec2::/32',                  # where clouds keep their secrets
    '::/96', '::ffff:0:0/96', '64:ff9b::/96', '64:ff9b:1::/48', '2001::/32', '2002::/16',     # IPv4 in disguise
    '100::/64', 'fe80::/10', 'fec0::/10', 'ff00::/8'))

Target = collections.namedtuple('Target', 'scheme host port path')


class NoPreview(Exception):
    """Why there is nothing to show of a link."""


class LinkPolicy:
    """Which hosts may be asked, and which addresses never, whatever name leads there; both are functions."""

    def __init__(self, hosts, own_addresses):
        self.hosts, self.own_addresses = hosts, own_addresses

    def names(self, target):
        """Whether the operator named a host: with its port, or alone where that is the usual one."""
        host = '[%s]' % target.host if ':' in target.host else target.host
        usual = [host] if target.port == USUAL_PORTS[target.scheme] else []
        return any(name in self.hosts() for name in usual + ['%s:%d' % (host, target.port)])

    def allows(self, address):
        return address not in self.own_addresses() and not any(address in network for network in NEVER_ASKED)


def link_target(url):
    """Where a link leads; ValueError where it cannot be asked."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in USUAL_PORTS or not 0 < len(parts.hostname or '') <= LONGEST_HOST or '@' in parts.netloc:
        raise ValueError('not a plain web address')
    path = urllib.parse.quote(parts.path or '/', safe="/%:@!$&'()*+,;=~")
    query = '?' + urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~?") if parts.query else ''
    return Target(parts.scheme, parts.hostname.encode('idna').decode('ascii'), parts.port or USUAL_PORTS[parts.scheme], path + query)


def links_to_ask(policy, text):
    """The first links outside of code whose hosts are named."""
    found = []
    for link in WEB_ADDRESS.findall(CODE.sub(' ', text)) if policy.hosts() else ():
        bare = link.rstrip(AFTER_ADDRESS)
        link = bare + ')' if '(' in bare and link.startswith(bare + ')') else bare
        with contextlib.suppress(ValueError):
            if link not in found and policy.names(link_target(link)):
                found.append(link)
    return found[:MOST_PREVIEWS]


# -- asking

def fetch_page(policy, url, clock):
    """The text of the page that a link leads to; every step of the way must be named and allowed."""
    end = clock.steady() + PREVIEW_SECONDS
    for _ in range(MOST_REDIRECTS + 1):
        target = link_target(url)
        if not policy.names(target):
            raise NoPreview('%s is not named' % target.host)
        response = ask_host(target, allowed_address(policy, target), end - clock.steady())
        if response.status not in (301, 302, 303, 307, 308):
            return page_text(response)
        url = urllib.parse.urljoin(url, response.getheader('Location', ''))
    raise NoPreview('too many redirects')


def allowed_address(policy, target):
    """The address of a host, resolved once; one that is forbidden among several spoils them all."""
    rows = socket.getaddrinfo(target.host, target.port, 0, socket.SOCK_STREAM)
    found = [ipaddress.ip_address(row[4][0].partition('%')[0]) for row in rows]
    if not found or not all(policy.allows(address) for address in found):
        raise NoPreview('%s is not at an address that may be asked' % target.host)
    return str(found[0])


def ask_host(target, address, seconds):
    """Send one request to just this address; returns what came in time, up to a limit."""
    if seconds <= 0:
        raise NoPreview('it takes too long')
    with socket.create_connection((address, target.port), seconds) as plain, shut_after(plain, seconds):
        asked = plain
        if target.scheme == 'https':
            asked = ssl.create_default_context().wrap_socket(plain, server_hostname=target.host)
        with asked:
            asked.sendall(link_request(target))
            response = http.client.HTTPResponse(Received(receive_some(asked, PREVIEW_BYTES)))
    response.begin()
    return response


@contextlib.contextmanager
def shut_after(connection, seconds):
    """Shut a socket down when its time is over, whatever it is waiting for; what drips in does not prolong it."""
    with connection.dup() as spare:              # TLS takes the first one over
        timer = threading.Timer(seconds, shut, (spare,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def shut(connection):
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def link_request(target):
    """Nothing in it tells who asks: no cookies, no referrer."""
    host = '[%s]' % target.host if ':' in target.host else target.host
    port = '' if target.port == USUAL_PORTS[target.scheme] else ':%d' % target.port
    return ('GET %s HTTP/1.1\r\nHost: %s%s\r\nUser-Agent: MiniMost/%s\r\nAccept: text/html\r\nAccept-Encoding: identity\r\n'
            'Connection: close\r\n\r\n' % (target.path, host, port, VERSION)).encode('ascii')


def receive_some(connection, limit):
    pieces = []
    while limit > 0:
        piece = connection.recv(min(limit, 16384))
        if not piece:
            break
        pieces.append(piece)
        limit -= len(piece)
    return b''.join(pieces)


class Received:
    """Bytes in the place of a socket, for http.client to read an answer from."""

    def __init__(self, content):
        self.content = content

    def makefile(self, mode):
        return io.BytesIO(self.content)


def page_text(response):
    if response.status != 200 or response.headers.get_content_type() not in ('text/html', 'application/xhtml+xml'):
        raise NoPreview('no page (%d)' % response.status)
    try:
        content = response.read(PREVIEW_BYTES)
    except http.client.IncompleteRead as cut:    # the limit cuts a page that comes in chunks
        content = cut.partial
    charset = response.headers.get_content_charset() or 'utf-8'
    try:
        return content.decode(charset, 'replace')
    except LookupError:
        return content.decode('utf-8', 'replace')


# -- reading

class PageHead(html.parser.HTMLParser):
    """Collects what a page says of itself (https://ogp.me, HTML section 4.2): {name: text}."""

    def __init__(self, text):
        html.parser.HTMLParser.__init__(self)
        self.said, self.title, self._in_title = {}, '', False
        with contextlib.suppress(AssertionError, NotImplementedError):       # a declaration that Python cannot read: the rest is left
            self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == 'meta' and values.get('content'):
            self.said.setdefault((values.get('property') or values.get('name') or '').lower(), values['content'])
        self._in_title = tag == 'title' and not self.title

    def handle_endtag(self, tag):
        self._in_title = False

    def handle_data(self, data):
        if self._in_title:
            self.title += data


def read_preview(text):
    """What a page says of itself, as plain words: title, description, site."""
    page = PageHead(text)
    title = tame_words(page.said.get('og:title') or page.title, 200)
    if not title:
        raise NoPreview('the page has no title')
    description = page.said.get('og:description') or page.said.get('description') or ''
    return {'title': title, 'description': tame_words(description, 300), 'site': tame_words(page.said.get('og:site_name', ''), 80)}


def tame_words(text, limit):
    """One line without what cannot be seen, which could turn or hide the words around it."""
    seen = ''.join(letter if letter.isprintable() or letter in JOINERS else ' ' for letter in text)
    line = ' '.join(seen.split())
    return line if len(line) <= limit else line[:limit - 1] + '\u2026'


# -- with messages

class Previewer:
    """Looks at links in a thread apart from all requests, which begins with the first that may be asked."""

    def __init__(self, app, policy):
        self.app, self.policy, self.ending = app, policy, False
        self.waiting = queue.Queue(MOST_WAITING)
        self.thread = threading.Thread(target=self._run, name='previewer', daemon=True)

    def stop(self):
        """Take no further message; a page that is being asked is not waited for."""
        self.ending = True
        self.expect(None)

    def expect(self, message):
        """Queue a message as (id, text, links); called by the thread that writes."""
        with contextlib.suppress(queue.Full):
            self.waiting.put_nowait(message)
        if self.thread.ident is None and not self.ending:
            self.thread.start()

    def _run(self):
        self.app.core.leave()
        while not self.ending:
            message = self.waiting.get()
            if message is None:
                return
            try:
                self._look(*message)
            except Refusal:                      # the server stops, or the disk is full: then without
                continue
            except Exception:                    # the edge of this thread: the next message must come
                report()

    def _look(self, message_id, text, links):
        previews = []
        for link in links:
            with contextlib.suppress(NoPreview, OSError, ValueError, http.client.HTTPException):
                previews.append(dict(read_preview(fetch_page(self.policy, link, self.app.clock)), url=link))
        if previews:
            self.app.store.write(functools.partial(keep_previews, message_id, text, previews))


def keep_previews(message_id, text, previews, change):
    """Put previews to a message, if it still says what it said when its links were found."""
    row = change.execute('SELECT channel_id, text, deleted FROM messages WHERE id = ?', (message_id,)).fetchone()
    if row is None or row['deleted'] or row['text'] != text:
        return
    drop_previews(change, message_id)
    for preview in previews:
        change.insert('previews', message_id=message_id, **preview)
    change.update('messages', message_id, previewed=1)
    change.tell('message', message_id, row['channel_id'])


def drop_previews(change, message_id):
    change.execute('DELETE FROM previews WHERE message_id = ?', (message_id,))


def add_previews(db, values):
    """Put the previews into messages, by id, in the order of their links."""
    marks = ', '.join('?' * len(values))
    for row in db.execute('SELECT * FROM previews WHERE message_id IN (%s) ORDER BY id' % marks, list(values)):
        values[row['message_id']]['previews'].append(
            {name: row[name] for name in ('id', 'url', 'title', 'description', 'site')})


PARTS.append(('previewed', add_previews))


def expect_previews(app, change, message_id, text):
    """Have the links of a message looked at, once it is on disk."""
    links = links_to_ask(app.previewer.policy, text)
    if links:
        change.afterwards(lambda: app.previewer.expect((message_id, text, links)))


def renew_previews(app, change, row):
    if row['previewed']:
        drop_previews(change, row['id'])
        change.update('messages', row['id'], previewed=0)
    expect_previews(app, change, row['id'], row['text'])


POSTINGS.append(expect_previews)
REWORDINGS.append((lambda app, change, row: None, renew_previews))


@route('DELETE', '/messages/<message>/previews/<number>', limit='change')
def remove_preview(request, message, preview_id):
    """Take the preview of a link off one's own message."""
    def remove(change):
        row = require_own(change, request, message)
        if change.execute('DELETE FROM previews WHERE id = ? AND message_id = ?', (preview_id, row['id'])).rowcount:
            change.tell('message', row['id'], row['channel_id'])
    request.write(remove)
    return Reply(204)


# ---- 16. PRESENCE ----------------------------------------------------

GONE_AFTER = 40                  # seconds without a poll; a poll waits 25 at most


class Presence:
    """Who is here: known from the polls, and from what people say of themselves. Kept in memory.

    Not to be disturbed is a choice, so it outlasts going away, and a restart.
    """

    def __init__(self, news, clock):
        self.news, self.clock = news, clock
        self._states, self._polled, self._seen, self._undisturbed = {}, {}, {}, {}
        self._changed, self._told = set(), {}
        news.greetings.append(self._greet)

    def open(self, db):
        self._seen = {row['user_id']: row['at'] for row in db.execute('SELECT user_id, at FROM seen')}
        self._undisturbed = dict(map(tuple, db.execute('SELECT user_id, until FROM undisturbed')))

    def of(self, user_id):
        """Returns: the state, and when the user was last here (ms) or None."""
        state = self._states.get(user_id)
        return (state[0], self.clock.now()) if state else ('offline', self._seen.get(user_id))

    def end_of(self, user_id):
        """When the state of now ends (ms), or None."""
        return self._states.get(user_id, ('offline', None))[1]

    def polled(self, user_id):
        """A page of the user listens."""
        self._polled[user_id] = self.clock.steady()
        if user_id in self._states:
            return
        until = self._undisturbed.get(user_id, 0)
        if until is None or until > self.clock.now():
            self.set(user_id, 'dnd', until)
        else:
            self.set(user_id, 'active')

    def set(self, user_id, state, until=None):
        """Change a state; with an end (ms) it turns to active then. Returns: whether a choice has to be kept or dropped."""
        before = self._undisturbed.pop(user_id, False)
        if state == 'dnd':
            self._undisturbed[user_id] = until
        self._states[user_id] = state, until
        self._changed.add(user_id)
        return before != self._undisturbed.get(user_id, False)

    def keep_choice(self, user_id, change):
        """Write down whether somebody does not want to be disturbed."""
        change.execute('DELETE FROM undisturbed WHERE user_id = ?', (user_id,))
        if user_id in self._undisturbed:
            change.insert('undisturbed', user_id=user_id, until=self._undisturbed[user_id])

    def tell_changes(self):
        """Tell who came, went or changed since the last time: once a second, however often they did."""
        changed = list(self._changed)
        self._changed.difference_update(changed)     # the set stays, for others add to it meanwhile; how they are is read only now
        states = {user_id: (self.of(user_id)[0], self.end_of(user_id)) for user_id in changed}
        others = {user_id: state for user_id, state in states.items() if self._told.get(user_id, ('offline', None)) != state}
        self._told.update(others)
        if others:
            self.news.pass_all_on('presence', [self._value(user_id) for user_id in others], EVERYBODY)

    def _value(self, user_id):
        """How somebody is, as it is told: with its end if it has one, of those who are gone with when they were here."""
        (state, last_seen), until = self.of(user_id), self.end_of(user_id)
        value = {'user_id': user_id, 'state': state}
        if until is not None:
            value['until'] = until
        if state == 'offline':
            value['last_seen'] = last_seen
        return value

    def sweep(self, store):
        """Those whose pages have gone are offline; a state that had an end is over."""
        steady, now = self.clock.steady(), self.clock.now()
        for user_id, (state, until) in list(self._states.items()):
            if steady - self._polled.get(user_id, 0) > GONE_AFTER:
                self._seen[user_id] = now
                self._states.pop(user_id, None)
                self._changed.add(user_id)
                store.write_soon(functools.partial(self._note, user_id, now))
            elif until is not None and until <= now:
                self.set(user_id, 'active')

    def _note(self, user_id, at, change):
        change.execute('INSERT OR REPLACE INTO seen (user_id, at) VALUES (?, ?)', (user_id, at))

    def note(self, change):
        """Write down that those who are here now were here now."""
        for user_id in list(self._states):
            self._note(user_id, change.now, change)

    def _greet(self, reader):
        """All presence, for a page that knew another boot of the server, of those who are gone as well."""
        return [wire('presence', self._value(user_id)) for user_id in set(self._seen) | set(self._states)]


@route('PUT', '/me/presence', limit='change')
def set_presence(request, state: OneOf('active', 'idle', 'dnd'), until: Maybe(Whole(0)) = None):
    """Say whether one is at the page, or does not want to be disturbed, and until when."""
    presence = request.app.presence
    presence.polled(request.user_id)
    if presence.set(request.user_id, state, until):
        request.app.store.write_soon(functools.partial(presence.keep_choice, request.user_id))
    return Reply(204)


@route('POST', '/channels/<channel>/typing', limit='typing')
def tell_typing(request, channel):
    """Say that one is writing."""
    require_open(channel)
    app, channel_id, writer_id = request.app, channel['id'], request.user_id

    def is_other_member(user_id):
        return user_id != writer_id and user_id in app.news.roll(app.store.reader(), channel_id).since
    app.news.pass_on('typing', {'channel_id': channel_id, 'user_id': writer_id}, Those(is_other_member))
    return Reply(204)


# ---- 17. CALLS -------------------------------------------------------
#
# Sound and pictures go from browser to browser; the server only says who is in a call, and brings the signals with
# which the pages find each other. Who takes part stands in a table and so outlives a restart; signals wait in memory
# until the cursor of their reader has passed them.

RINGING_SECONDS = 30
PARTING_SECONDS = 20             # without a page that asks for signals one has left the call
SIGNALS_WAIT = 10                # seconds, so that a connection which died in silence is noticed soon
MOST_SIGNAL = 65536              # bytes
MOST_SIGNALS, MOST_BYTES_OF_SIGNALS = 512, 2 ** 20        # that wait for one participant
MOST_BYTES_OF_ALL_SIGNALS = 2 ** 25
MOST_IN_CALL = 50                # people; each page connects with all the others
PARTICIPANTS_KEPT = 200          # of so many calls the participants are kept

SEEN_BY = ('(EXISTS (SELECT 1 FROM members WHERE members.channel_id = calls.channel_id AND members.user_id = :user '
           'AND (ended_at IS NULL OR since_message < coalesce(line_id, 1))) OR '       # the past is not a late joiner's
           'EXISTS (SELECT 1 FROM participants WHERE call_id = calls.id AND participants.user_id = :user AND invited))')

Device = Line(1, 64)
Seat = collections.namedtuple('Seat', 'call_id user_id device')      # of one who takes part; without a device of one who is rung
Signal = collections.namedtuple('Signal', 'number wire')


def find_call(db, user_id, call_id):
    """A call, if the user is in its channel or was invited to it; else it is not there."""
    row = db.execute('SELECT * FROM calls WHERE id = :call AND ' + SEEN_BY, {'call': call_id, 'user': user_id}).fetchone()
    if row is None:
        raise not_found()
    return row


@loader('call')
def load_call(request, text):
    return find_call(request.db, request.user_id, path_id(text))


def reload_call(change, request, call):
    """Look at the call once more inside a change; one that has ended takes no more."""
    row = find_call(change, request.user_id, call['id'])
    require_going_on(row)
    return row


def require_going_on(call):
    if call['ended_at'] is not None:
        raise Refusal(409, 'call_ended', 'The call has ended.')


def find_participant(db, call_id, user_id):
    return db.execute('SELECT * FROM participants WHERE call_id = ? AND user_id = ?', (call_id, user_id)).fetchone()


def seat_of(row):
    return Seat(row['call_id'], row['user_id'], row['device'])


def require_part(db, call, user_id, device):
    """One who acts in a call must be in it, with this very device."""
    require_going_on(call)
    row = find_participant(db, call['id'], user_id)
    if row is None or row['state'] != 'joined':
        raise Refusal(409, 'not_in_call', 'Join the call first.')
    if device not in (None, row['device']):
        raise Refusal(409, 'other_device', 'You are in this call on another device or in another tab.', 'device')


def call_value(db, row):
    """A call as all see it who may see it."""
    return {
        'id': row['id'], 'channel_id': row['channel_id'], 'started_by': row['started_by'],
        'started_at': row['started_at'], 'ended_at': row['ended_at'],
        'participants': [participant_value(one) for one in db.execute(
            'SELECT * FROM participants WHERE call_id = ? ORDER BY user_id', (row['id'],))]}


def participant_value(row):
    value = {'user_id': row['user_id'], 'device': row['device'], 'state': row['state']}
    value.update((name, bool(row[name])) for name in ('muted', 'camera', 'sharing', 'hand'))
    return value


def own_calls(db, user_id):
    """The calls going on that a user may see."""
    return [call_value(db, row) for row in db.execute(
        'SELECT * FROM calls WHERE ended_at IS NULL AND ' + SEEN_BY + ' ORDER BY id', {'user': user_id}).fetchall()]


def call_reply(request, db, call_id, status=200):
    return Reply(status, {'call': call_value(db, find_call(db, request.user_id, call_id))})


# -- what is told

def callers(news, db, event):
    """The channel's members, but those who came after its end without the past, and those who were invited from elsewhere."""
    call = db.execute('SELECT ended_at, line_id FROM calls WHERE id = ?', (event.ref,)).fetchone()
    invited = [row['user_id'] for row in db.execute(
        'SELECT user_id FROM participants WHERE call_id = ? AND invited', (event.ref,))]
    end = math.inf if call['ended_at'] is None else call['line_id'] or 1
    return {user_id for user_id, since in news.roll(db, event.channel_id).since.items() if since < end}.union(invited)


@show('call', callers)
def show_call(app, db, event):
    return call_value(db, db.execute('SELECT * FROM calls WHERE id = ?', (event.ref,)).fetchone())


def tell_call(change, call):
    change.tell('call', call['id'], call['channel_id'])


# -- in memory

class Calls:
    """What of the calls lives in memory: how long each participant may be silent, and the signals on their way."""

    def __init__(self, news, clock):
        self.news, self.clock = news, clock
        self._silent_since, self._waiting = {}, collections.Counter()        # by seat
        self._signals, self._bytes, self._number = {}, 0, 0
        self._lock = threading.Lock()
        news.greetings.append(self._greet)

    def _greet(self, user_id):
        """The calls going on, for a page that knew another boot of the server."""
        return [wire('call', value) for value in own_calls(self.news.app.store.reader(), user_id)]

    # -- silence

    def arrive(self, seat):
        """A page waits for signals: as long as it does, it is there."""
        with self._lock:
            self._waiting[seat] += 1

    def depart(self, seat):
        """The page waits no more, until it asks again."""
        with self._lock:
            self._waiting[seat] -= self._waiting[seat] > 0
            self._silent_since[seat] = self.clock.steady()

    def begin_silence(self, seat):
        """Count anew from now: somebody is rung or has just joined."""
        with self._lock:
            self._silent_since[seat] = self.clock.steady()

    def overdue(self, seats):
        """Those of them who have been silent for too long."""
        now, seats = self.clock.steady(), set(seats)
        with self._lock:
            return [seat for seat in seats if not self._waiting[seat] and now - self._silent_since.setdefault(seat, now) >= (
                RINGING_SECONDS if seat.device is None else PARTING_SECONDS)]

    def seats(self):
        """Everybody who is known here."""
        with self._lock:
            return set(self._silent_since).union(self._signals, self._waiting)

    def forget(self, seats):
        with self._lock:
            for seat in seats:
                self._silent_since.pop(seat, None)
                self._waiting.pop(seat, None)
                self._bytes -= sum(len(signal.wire) for signal in self._signals.pop(seat, ()))

    # -- signals

    def send(self, seat, value):
        """Put a signal where its recipient fetches it; raises Refusal 429 or 503 while there is no room."""
        rendered = encode(value)
        with self._lock:
            waiting = self._signals.setdefault(seat, collections.deque())
            size = len(rendered) + sum(len(signal.wire) for signal in waiting)
            if len(waiting) >= MOST_SIGNALS or size > MOST_BYTES_OF_SIGNALS:
                raise try_later(429, 'too_many_signals', 'The other side does not keep up. Wait a moment.', 1)
            if self._bytes + len(rendered) > MOST_BYTES_OF_ALL_SIGNALS:
                raise try_later(503, 'busy', 'The server is busy. Trying again by itself.', 1)
            self._number += 1
            rendered = b'{"id":%d,%s' % (self._number, rendered[1:])
            waiting.append(Signal(self._number, rendered))
            self._bytes += len(rendered)
        self.wake(seat.user_id)

    def wake(self, user_id):
        """Have the polls of a user look again."""
        self.news.on_news([(user_id,)])

    def read_cursor(self, text):
        """The number of the last signal that a page has; one from before a restart knows none of these."""
        boot, _, number = text.partition('.')
        return int(number) if boot == self.news.boot and re.fullmatch('[0-9]{1,16}', number, re.ASCII) else 0

    def answer(self, seat, after):
        """The signals after a number as JSON bytes, or None where there are none; those up to it are done with."""
        with self._lock:
            waiting = self._signals.get(seat, ())
            while waiting and waiting[0].number <= after:
                self._bytes -= len(waiting.popleft().wire)
            return self.compose(waiting[-1].number, waiting) if waiting else None

    def compose(self, number, signals=()):
        return b'{"cursor":"%s.%d","signals":[%s]}' % (
            self.news.boot.encode('ascii'), number, b','.join(signal.wire for signal in signals))


class SignalListener(Listener):
    """A page in a call that waits for signals."""

    __slots__ = ('seat',)

    def __init__(self, session, cursor, deadline, seat):
        Listener.__init__(self, session, cursor, deadline)
        self.seat = seat

    def answer(self, app):
        """Raises: Refusal once this page is no longer in the call."""
        db = app.store.reader()
        require_part(db, find_call(db, self.session.user_id, self.seat.call_id), *self.seat[1:])
        return app.calls.answer(self.seat, self.cursor)

    def quiet(self, app):
        return app.calls.compose(self.cursor)

    def leave(self, app):
        app.calls.depart(self.seat)


# -- coming and going

def set_participant(change, call, user_id, **values):
    change.execute('INSERT OR IGNORE INTO participants (call_id, user_id) VALUES (?, ?)', (call['id'], user_id))
    change.execute('UPDATE participants SET %s WHERE call_id = ? AND user_id = ?' % ', '.join(
        name + ' = ?' for name in values), tuple(values.values()) + (call['id'], user_id))


def add_call(app, change, channel, user_id):
    """Begin a call; in a direct channel it rings with all the others."""
    call = {'id': change.insert('calls', channel_id=channel['id'], started_by=user_id, started_at=change.now,
                                started_second=app.service.seconds()), 'channel_id': channel['id']}
    if channel['kind'] == 'direct':
        unhide(change, channel['id'], '1')
        for other in member_ids(change, channel['id']):
            if other != user_id and is_active(change, other):
                ring(app, change, call, other)
    return call


def ring(app, change, call, user_id):
    """Ring for somebody who is not in the call."""
    set_participant(change, call, user_id, state='ringing', device=None)
    change.afterwards(functools.partial(app.calls.begin_silence, Seat(call['id'], user_id, None)))


def enter(request, change, call, device):
    """Take part from now on, with this device alone."""
    before = find_participant(change, call['id'], request.user_id)
    if before and before['state'] == 'joined' and before['device'] == device:
        return
    if len(taking_part(change, "state = 'joined' AND call_id = ? AND user_id <> ?", call['id'], request.user_id)) >= MOST_IN_CALL:
        raise Refusal(409, 'call_full', 'There are %d people in this call already.' % MOST_IN_CALL)
    calls = request.app.calls
    set_participant(change, call, request.user_id, state='joined', device=device, session_id=request.session.id,
                    answered=1, muted=0, camera=0, sharing=0, hand=0)
    tell_call(change, call)
    change.afterwards(functools.partial(calls.begin_silence, Seat(call['id'], request.user_id, device)))
    change.afterwards(functools.partial(calls.wake, request.user_id))


def stand_up(app, change, call, user_id, state):
    """Take somebody's seat away, the signals that wait there included."""
    row = find_participant(change, call['id'], user_id)
    if row:
        change.afterwards(functools.partial(app.calls.forget, [seat_of(row)]))
    set_participant(change, call, user_id, state=state, device=None, muted=0, camera=0, sharing=0, hand=0)
    change.afterwards(functools.partial(app.calls.wake, user_id))


def part(app, change, call, user_id, state):
    """Somebody takes part no more, or will not; the last one who goes ends the call."""
    stand_up(app, change, call, user_id, state)
    if change.execute("SELECT 1 FROM participants WHERE call_id = ? AND state = 'joined'", (call['id'],)).fetchone():
        tell_call(change, call)
    else:
        end_call(app, change, call)


def end_call(app, change, call):
    """Nobody is in the call any more: a line in the channel tells of it."""
    parting = change.execute("SELECT * FROM participants WHERE call_id = ? AND state IN ('ringing', 'joined')",
                             (call['id'],)).fetchall()
    for row in parting:
        stand_up(app, change, call, row['user_id'], 'left' if row['state'] == 'joined' else 'missed')
    tell_call(change, call)
    row = change.execute('SELECT * FROM calls WHERE id = ?', (call['id'],)).fetchone()
    line_id = add_line(change, 'call', call['channel_id'], row['started_by'], {
        'call_id': call['id'], 'seconds': max(0, app.service.seconds() - row['started_second']),
        'missed': is_missed(change, call)})
    change.update('calls', call['id'], ended_at=change.now, line_id=line_id)


def is_missed(db, call):
    """Whether people were rung and none of them came."""
    row = db.execute('SELECT count(*) AS called, sum(answered) AS came FROM participants WHERE call_id = ?',
                     (call['id'],)).fetchone()
    return row['called'] > 1 and row['came'] == 1


# -- those who must go

def taking_part(db, condition, *values):
    """The participants, of calls going on, who are rung or in them: rows that also hold the channel."""
    return db.execute("SELECT participants.*, call_id AS id, channel_id FROM participants JOIN calls ON calls.id = call_id "
                      "WHERE state IN ('ringing', 'joined') AND ended_at IS NULL AND " + condition, values).fetchall()


def put_out(app, change, rows):
    """Take people out of the calls that they are in or are called to."""
    for row in rows:
        if taking_part(change, 'call_id = ? AND user_id = ?', row['call_id'], row['user_id']):
            part(app, change, row, row['user_id'], 'left' if row['state'] == 'joined' else 'missed')


def sweep_calls(app):
    """Those who do not answer have missed the call; those whose page is gone have left it."""
    known = app.calls.seats()
    seats = [seat_of(row) for row in taking_part(app.store.reader(), '1')]
    app.calls.forget(known.difference(seats))

    def put_out_overdue(change):
        rows = {seat_of(row): row for row in taking_part(change, '1')}
        put_out(app, change, [rows[seat] for seat in app.calls.overdue(rows)])
    if app.calls.overdue(seats):
        app.store.write(put_out_overdue)


def end_sessions_in_calls(app, session_ids):
    """Whoever takes part by a session that was ended takes part no more."""
    def leave(change):
        put_out(app, change, [row for row in taking_part(change, "state = 'joined'") if row['session_id'] in session_ids])
    with contextlib.suppress(Refusal):           # the server is stopping, and looks again when it starts
        app.store.write_soon(leave)


def leave_lost_calls(app, change, channel_id):
    """A call goes with the membership of the channel, but for those invited, and with the channel's being open."""
    channel = change.execute('SELECT * FROM channels WHERE id = ?', (channel_id,)).fetchone()
    put_out(app, change, taking_part(
        change, 'channel_id = ? AND (? OR NOT invited AND user_id NOT IN (SELECT user_id FROM members WHERE channel_id = ?))',
        channel_id, channel['archived'], channel_id))


LOSSES.append(leave_lost_calls)


def leave_all_calls(app, change, user_id):
    put_out(app, change, taking_part(change, 'user_id = ?', user_id))
    change.execute('UPDATE participants SET invited = 0 WHERE user_id = ?', (user_id,))


DEPARTURES.append(leave_all_calls)


def take_up_calls(app, change):
    """At the start: calls go on, but for those whose participants were lost with presence.db."""
    for row in change.execute('SELECT * FROM calls WHERE ended_at IS NULL').fetchall():
        if not taking_part(change, "call_id = ? AND state = 'joined'", row['id']):
            end_call(app, change, row)
    change.execute('DELETE FROM participants WHERE call_id NOT IN (SELECT id FROM calls)')


STARTS.append(take_up_calls)


def prune_participants(change):
    """Forget who was in calls of long ago."""
    change.execute('DELETE FROM participants WHERE call_id <= (SELECT max(id) FROM calls) - ? '
                   'AND call_id NOT IN (SELECT id FROM calls WHERE ended_at IS NULL)', (PARTICIPANTS_KEPT,))


# -- routes

@route('POST', '/calls', limit='change')
def start_call(request, channel_id: Id, device: Device):
    """Start a call in a channel, or join the one going on there; in a direct channel the others are rung."""
    def start(change):
        channel = find_channel(change, request.user_id, request.role, channel_id)
        require_open(channel)
        running = change.execute('SELECT * FROM calls WHERE channel_id = ? AND ended_at IS NULL', (channel_id,)).fetchone()
        call = running or add_call(request.app, change, channel, request.user_id)
        enter(request, change, call, device)
        return call_reply(request, change, call['id'], 200 if running else 201)
    return request.write(start)


@route('POST', '/calls/<call>/join', limit='change')
def join_call(request, call, device: Device):
    """Join a call, with this device instead of any other of one's own."""
    def join(change):
        enter(request, change, reload_call(change, request, call), device)
        return call_reply(request, change, call['id'])
    return request.write(join)


def stop_taking_part(request, call, state, is_concerned):
    """Go, or do not come, where that makes sense for the participant's row, which may be None; else nothing changes."""
    def stop(change):
        before = find_call(change, request.user_id, call['id'])
        if before['ended_at'] is None and is_concerned(find_participant(change, call['id'], request.user_id)):
            part(request.app, change, before, request.user_id, state)
        return call_reply(request, change, call['id'])
    return request.write(stop)


@route('POST', '/calls/<call>/leave', limit='change')
def leave_call(request, call, device: Device):
    """Leave a call that one is in with this device."""
    return stop_taking_part(request, call, 'left', lambda row: row and row['state'] == 'joined' and row['device'] == device)


@route('POST', '/calls/<call>/decline', limit='change')
def decline_call(request, call, device: Device):
    """Say that one does not come to a call, whether it rings or not."""
    return stop_taking_part(request, call, 'declined', lambda row: row is None or row['state'] == 'ringing')


@route('POST', '/calls/<call>/invite', limit='change')
def invite_to_call(request, call, users: ListOf(Id, 100)):
    """Ring for others; those who are not in the channel see the call, not the channel."""
    def invite(change):
        before = reload_call(change, request, call)
        require_part(change, before, request.user_id, None)
        if not request.at_least('member'):
            raise forbidden('Guests cannot invite.')
        require_people(change, users)
        members = member_ids(change, before['channel_id'])
        for user_id in users:
            invite_one(request.app, change, before, user_id, user_id not in members)
        tell_call(change, before)
        return call_reply(request, change, call['id'])
    return request.write(invite)


def invite_one(app, change, call, user_id, is_from_elsewhere):
    row = find_participant(change, call['id'], user_id)
    if row is None or row['state'] not in ('joined', 'ringing'):
        ring(app, change, call, user_id)
    if is_from_elsewhere:
        set_participant(change, call, user_id, invited=1)


@route('PATCH', '/calls/<call>/me', limit='change')
def change_part(request, call, muted: Truth() = None, camera: Truth() = None, sharing: Truth() = None,
                hand: Truth() = None):
    """Say what one shows and hears in a call, and raise a hand."""
    values = {name: int(value) for name, value in (
        ('muted', muted), ('camera', camera), ('sharing', sharing), ('hand', hand)) if value is not None}

    def apply(change):
        before = reload_call(change, request, call)
        require_part(change, before, request.user_id, None)
        if values:
            set_participant(change, before, request.user_id, **values)
            tell_call(change, before)
        return call_reply(request, change, call['id'])
    return request.write(apply)


@route('POST', '/calls/<call>/signal', limit='signal', most=MOST_SIGNAL + 1024)
def send_signal(request, call, to: Id, device: Device, data: Anything(MOST_SIGNAL)):
    """Bring something to another participant's page; it waits until that page has fetched it."""
    require_part(request.db, call, request.user_id, device)
    other = find_participant(request.db, call['id'], to)
    if to == request.user_id or other is None or other['state'] != 'joined':
        raise Refusal(409, 'not_in_call', 'The other one is not in the call.', 'to')
    request.app.calls.send(seat_of(other), collections.OrderedDict([
        ('call_id', call['id']), ('from', request.user_id), ('device', device), ('to', to), ('data', data)]))
    return Reply(204)


@route('GET', '/calls/<call>/signals', lane='lot')
def get_signals(request, call, device: Device, after: Text(0, MOST_LINE) = '', wait: Whole(0) = SIGNALS_WAIT):
    """The signals for this page after the cursor, waited for; the page is in the call for as long as it asks."""
    app, seat = request.app, Seat(call['id'], request.user_id, device)
    require_part(request.db, call, request.user_id, device)
    app.calls.arrive(seat)
    deadline = app.clock.steady() + min(wait, SIGNALS_WAIT)
    return Parked(SignalListener(request.session, app.calls.read_cursor(after), deadline, seat))


# ---- 18. ALERTS ------------------------------------------------------
#
# An alert takes over the pages that are open, until each person has acknowledged it. It reaches open pages only.

ALERTS_LISTED = 50


def alert_value(row):
    return {'id': row['id'], 'text': row['text'], 'drill': bool(row['drill']), 'created_by': row['created_by'],
            'created_at': row['created_at'], 'ended_at': row['ended_at']}


@show('alert', everybody)
def show_alert(app, db, event):
    return alert_value(find_alert(db, event.ref))


def oneself_and_governors(news, db, event):
    others = governors(news)
    return Those(lambda user_id: user_id == event.user_id or user_id in others)


@show('acknowledged', oneself_and_governors)
def show_acknowledgement(app, db, event):
    return {'alert_id': event.ref, 'user_id': event.user_id}


def find_alert(db, alert_id):
    row = db.execute('SELECT * FROM alerts WHERE id = ?', (alert_id,)).fetchone()
    if row is None:
        raise not_found()
    return row


@loader('alert')
def load_alert(request, text):
    return find_alert(request.db, path_id(text))


def current_alerts(db, user_id):
    """The alerts going on, and whether a user has acknowledged them."""
    return [dict(alert_value(row), acknowledged=row['at'] is not None) for row in db.execute(
        'SELECT alerts.*, acknowledged.at FROM alerts LEFT JOIN acknowledged ON alert_id = alerts.id AND user_id = ? '
        'WHERE ended_at IS NULL ORDER BY alerts.id', (user_id,))]


@route('GET', '/admin/alerts', role='admin')
def get_alerts(request):
    """The last alerts, the newest first."""
    rows = request.db.execute('SELECT * FROM alerts ORDER BY id DESC LIMIT ?', (ALERTS_LISTED,))
    return Reply(200, {'alerts': [alert_value(row) for row in rows]})


@route('POST', '/admin/alerts', role='admin', limit='change', audit='alert')
def raise_alert(request, text: Text(1, 1000), drill: Truth() = False):
    """Alert everybody whose page is open, or say that it is a drill."""
    def store(change):
        alert_id = change.insert('alerts', text=text, drill=int(drill), created_by=request.user_id, created_at=change.now)
        change.tell('alert', alert_id)
        return alert_value(find_alert(change, alert_id))
    alert = request.write(store)
    request.note(alert=alert['id'], drill=drill)
    return Reply(201, {'alert': alert})


@route('GET', '/admin/alerts/<alert>', role='admin')
def get_alert(request, alert):
    """An alert with its roll-call: who has acknowledged it and when, and who has not."""
    rows = request.db.execute('SELECT user_id, at FROM acknowledged WHERE alert_id = ? ORDER BY at, user_id', (alert['id'],)).fetchall()
    waiting = [row['id'] for row in request.db.execute(
        "SELECT id FROM users WHERE active AND role <> 'bot' AND id NOT IN (SELECT user_id FROM acknowledged "
        "WHERE alert_id = ?) ORDER BY id", (alert['id'],))]
    return Reply(200, {'alert': alert_value(alert), 'acknowledged': [row['user_id'] for row in rows],
                       'times': [row['at'] for row in rows], 'waiting': waiting})


@route('DELETE', '/admin/alerts/<alert>', role='admin', limit='change', audit='alert-end')
def end_alert(request, alert):
    """End an alert on every page."""
    request.note(alert=alert['id'])

    def end(change):
        if find_alert(change, alert['id'])['ended_at'] is None:
            change.update('alerts', alert['id'], ended_at=change.now)
            change.tell('alert', alert['id'])
    request.write(end)
    return Reply(204)


@route('POST', '/alerts/<alert>/ack', limit='change')
def acknowledge(request, alert):
    """Say that one has seen an alert."""
    def store(change):
        if change.execute('INSERT OR IGNORE INTO acknowledged (alert_id, user_id, at) VALUES (?, ?, ?)',
                          (alert['id'], request.user_id, change.now)).rowcount:
            change.tell('acknowledged', alert['id'], user_id=request.user_id)
    request.write(store)
    return Reply(204)


# ---- 19. LIVE --------------------------------------------------------

LONGEST_WAIT = 25                # seconds


@route('GET', '/snapshot', limit='read')
def get_snapshot(request):
    """All that a fresh page needs, read together with the cursor from which to listen."""
    app = request.app
    number = app.news.passing_last
    with app.store.snapshot() as db:
        me = me_value(app, db, request.user_id)
        value = {'me': me['user'], 'preferences': me['preferences'], 'users': all_users(app, db),
                 'channels': own_channels(db, request.user_id, request.role), 'calls': own_calls(db, request.user_id),
                 'alerts': current_alerts(db, request.user_id), 'settings': page_settings(app), 'server': app.about(),
                 'cursor': app.news.cursor(last_event(db), number)}
    return Reply(200, value)


def page_settings(app):
    """What the page must know of the settings."""
    settings = app.settings
    return {'name': settings.name, 'registration': settings.registration,
            'max_upload_size_mb': settings.max_upload_size_mb, 'max_avatar_size_mb': settings.max_avatar_size_mb,
            'password_min_length': settings.password_min_length, 'max_message_length': MOST_TEXT, 'max_files': MOST_FILES}


@route('GET', '/poll', lane='lot')
def poll(request, after: Text(0, MOST_LINE), wait: Whole(0) = LONGEST_WAIT):
    """What happened after the cursor: at once if there is news, else when there is, else after the wait."""
    app = request.app
    cursor = app.news.read_cursor(request.db, after)
    if cursor is None:
        return Reply(200, content=app.news.reset_answer())
    app.presence.polled(request.user_id)
    return Parked(Listener(request.session, cursor, app.clock.steady() + min(wait, LONGEST_WAIT)))


# ---- 20. ADMIN -------------------------------------------------------

RESET_MINUTES = 60               # of service
INVITE_HOURS, LONGEST_INVITE = 168, 8760
INVITED_ROLES = ('guest', 'member', 'admin')
PEOPLE_ROLES = ('guest', 'member', 'admin', 'owner')
ENTRIES = 100                    # of the audit log on one page


def require_rank(db, request, *roles):
    """Whoever asks must still be an administrator, and an owner where one of the roles is that."""
    rank = db.execute('SELECT role FROM users WHERE id = ? AND active', (request.user_id,)).fetchone()
    if rank is None or ROLES.index(rank['role']) < ROLES.index('admin'):
        raise forbidden()
    if 'owner' in roles and rank['role'] != 'owner':
        raise forbidden('Only an owner may do that.')


# -- settings

class SettingField(Field):
    """A new value for a setting, or null for the one that settings.json says."""

    def __init__(self, setting):
        self.setting = setting

    def read(self, value):
        return None if value is None else self.setting.kind(value)


SETTING_FIELDS = collections.OrderedDict((setting.name, SettingField(setting)) for setting in SETTINGS)


def read_stored_settings(app, change):
    """At the start: put in force what was changed in the page, which wins over settings.json."""
    app.settings.replace({row['name']: json.loads(row['value']) for row in change.execute('SELECT * FROM settings')})


STARTS.insert(0, read_stored_settings)


@route('GET', '/admin/settings', role='admin')
def get_settings(request):
    """Every setting: what it is, its default, what it means, and whether it is locked while the server runs."""
    changed = {row['name'] for row in request.db.execute('SELECT name FROM settings')}
    return Reply(200, {'settings': settings_values(request.app.settings, changed)})


def settings_values(settings, changed):
    return [{'name': one.name, 'value': getattr(settings, one.name), 'default': one.default, 'help': one.help,
             'choices': getattr(getattr(one.kind, '__self__', None), 'choices', None),
             'locked': one.name in settings.locked, 'changed': one.name in changed} for one in SETTINGS]


@route('PATCH', '/admin/settings', role='admin', limit='change', audit='settings')
def change_settings(request, **values: SETTING_FIELDS):
    """Change settings at once; null takes a change back."""
    app = request.app
    request.note(settings=','.join(sorted(values)))
    for name in sorted(app.settings.locked.intersection(values)):
        raise Refusal(409, 'locked', 'The setting %s is read at the start: say it on the command line or in settings.json, '
                      'and start again.' % name, name)

    def store(change):
        require_rank(change, request)
        for name, value in values.items():
            change.execute('DELETE FROM settings WHERE name = ?', (name,))
            if value is not None:
                change.insert('settings', name=name, value=json.dumps(value))
        change.afterwards(lambda: app.settings.replace(values))
    request.write(store)
    app.news.pass_on('notice', {'code': 'settings', 'settings': page_settings(app)}, EVERYBODY)
    return get_settings(request)


# -- people

def account_rows(db, condition='1', *values):
    return db.execute('SELECT users.*, (SELECT count(*) FROM sessions WHERE user_id = users.id) AS sessions FROM users '
                      'JOIN accounts ON accounts.id = users.id WHERE %s ORDER BY users.id' % condition, values).fetchall()


def find_profile(db, user_id):
    rows = account_rows(db, 'users.id = ?', user_id)
    if not rows:
        raise not_found()
    return rows[0]


def account_value(app, row):
    """A user as administrators see it."""
    return dict(user_value(app, row), approved=bool(row['approved']), created_at=row['created_at'], sessions=row['sessions'])


@loader('account')
def load_account(request, text):
    row = find_profile(request.db, path_id(text))
    request.note(target=row['username'])
    return row


@route('GET', '/admin/users', role='admin')
def get_accounts(request):
    """Everybody who has an account, those included who wait to be let in."""
    return Reply(200, {'users': [account_value(request.app, row) for row in account_rows(request.db)]})


@route('PATCH', '/admin/users/<account>', role='admin', limit='change', audit='account-change')
def change_account(request, account, role: OneOf(*PEOPLE_ROLES) = None, active: Truth() = None, approved: Truth() = None):
    """Give somebody a role, let them in, turn them away, deactivate or reactivate them."""
    changes = [(appoint, role), (approve, approved), (activate, active)]
    request.note(role=role, active=active, approved=approved)

    def apply(change):
        require_rank(change, request, find_profile(change, account['id'])['role'], role)
        return change_profile(request.app, change, account['id'], changes)
    return Reply(200, {'user': request.write(apply)})


def change_profile(app, change, user_id, changes):
    """Apply (function, value) pairs where there is a value; returns the user as it is then, or was at the end."""
    row = find_profile(change, user_id)
    for alter, value in changes:
        if value is not None:
            alter(app, change, find_profile(change, user_id), value)
    return account_value(app, (account_rows(change, 'users.id = ?', user_id) or [row])[0])


def appoint(app, change, row, role):
    if row['role'] == role:
        return
    if row['role'] == 'bot':
        raise Refusal(409, 'bot', 'A bot stays a bot.', 'role')
    if row['role'] == 'owner':
        require_another_owner(change, row['id'])
    change.update('users', row['id'], role=role)
    void_papers(change, row['id'])
    if not row['approved']:
        return
    change.tell('user', row['id'])
    if row['role'] == 'guest':
        join_first_channels(change, row['id'], role)
    change.afterwards(lambda: app.sessions.read_again(row['id']))


def approve(app, change, row, approved):
    """Let one in who waits, or turn them away, which frees the name."""
    if row['approved']:
        if not approved:
            raise Refusal(409, 'approved', 'This account has been let in. Deactivate it instead.', 'approved')
        return
    if approved:
        change.update('users', row['id'], approved=1, active=1)
        return welcome(change, row['id'], row['role'])
    for table in ('accounts', 'users'):
        change.execute('DELETE FROM %s WHERE id = ?' % table, (row['id'],))


def activate(app, change, row, active):
    """Deactivated, one is signed out everywhere at once and stays so; the name and what was written stay."""
    if bool(row['active']) == active:
        return
    if not row['approved']:
        raise Refusal(409, 'not_approved', 'This account waits to be let in.', 'active')
    if not active:
        if row['role'] == 'owner':
            require_another_owner(change, row['id'])
        shut_out(app, change, row['id'])
        void_papers(change, row['id'])
    change.update('users', row['id'], active=int(active))
    change.tell('user', row['id'])


@route('DELETE', '/admin/users/<account>/sessions', role='admin', limit='change', audit='session-revoke')
def sign_out_everywhere(request, account):
    """Sign somebody out everywhere."""
    def end(change):
        require_rank(change, request, find_profile(change, account['id'])['role'])
        request.app.sessions.end(change, 'user_id = ?', account['id'])
    request.write(end)
    return Reply(204)


@route('POST', '/admin/users/<account>/reset', role='admin', limit='change', audit='reset-make')
def make_reset_link(request, account):
    """Make a link with which somebody sets a new password; it works once, for an hour, and the person is told."""
    def make(change):
        require_rank(change, request, find_profile(change, account['id'])['role'])
        return make_reset(request.app, change, find_profile(change, account['id']), RESET_MINUTES, request.user_id)
    text = request.write(make)
    return Reply(201, {'url': reset_url(request.origin, text), 'expires_in': RESET_MINUTES * 60})


def make_reset(app, change, row, minutes, maker_id=None):
    """A token with which a user's password can be set once; an older one is void, and only the hash is kept.

    The person is told in the page, and by a line in their notebook that stays.
    """
    if row['role'] == 'bot' or not row['active']:
        raise Refusal(409, 'no_password', 'This account cannot be signed in to with a password.')
    text = token(app.random_bytes, 32)
    change.execute('INSERT OR REPLACE INTO resets (user_id, token_hash, expires_second) VALUES (?, ?, ?)',
                   (row['id'], digest(text), app.service.seconds() + minutes * 60))
    notebook, _ = find_direct(change, row['id'], [row['id']])
    write_line(change, notebook, maker_id or row['id'], event='reset_link', user_id=row['id'], console=maker_id is None)
    change.afterwards(lambda: app.news.pass_on('notice', {'code': 'reset_link', 'user_id': maker_id}, (row['id'],)))
    return text


def reset_url(origin, text):
    return '%s/#/reset/%s' % (origin, text)


# -- invitations

@route('GET', '/admin/invites', role='admin')
def get_invites(request):
    """The invitations that are valid; their codes were shown once."""
    second = request.app.service.seconds()
    rows = request.db.execute('SELECT * FROM invites WHERE uses_left > 0 AND expires_second > ? ORDER BY id DESC', (second,))
    return Reply(200, {'invites': [
        {'id': row['id'], 'role': row['role'], 'channel_id': visible_channel(request.db, request, row['channel_id']),
         'uses': row['uses_left'], 'created_by': row['created_by'], 'created_at': row['created_at'],
         'expires_in': row['expires_second'] - second} for row in rows]})


def visible_channel(db, request, channel_id):
    """A channel's id, if the one who asks may know of it."""
    with contextlib.suppress(Refusal):
        return channel_id and find_channel(db, request.user_id, request.role, channel_id)['id']


@route('POST', '/admin/invites', role='admin', limit='change', audit='invite-make')
def invite(request, uses: Whole(1, 10000) = 1, hours: Whole(1, LONGEST_INVITE) = INVITE_HOURS,
           role: OneOf(*INVITED_ROLES) = 'member', channel_id: Maybe(Id) = None):
    """Make a code with which people sign up, so many times and so many hours of service long."""
    def make(change):
        require_rank(change, request)
        if channel_id is not None:
            require_invitation(request, find_channel(change, request.user_id, request.role, channel_id), [])
        return make_invite(request.app, change, uses, hours, role, channel_id, request.user_id)
    invite_id, code = request.write(make)
    request.note(invite=invite_id, role=role, uses=uses)
    return Reply(201, {'id': invite_id, 'code': code, 'url': invite_url(request.origin, code)})


def make_invite(app, change, uses, hours, role, channel_id, maker_id=None):
    """Returns: the invitation's id, and its code, of which only a hash is kept."""
    letters = base64.b32encode(app.random_bytes(10)).decode('ascii')
    code = '-'.join((letters[:4], letters[4:8], letters[8:12]))
    return change.insert(
        'invites', code_hash=invite_digest(code), role=role, channel_id=channel_id, uses_left=uses, created_by=maker_id,
        created_at=change.now, expires_second=app.service.seconds() + hours * 3600), code


def invite_url(origin, code):
    return '%s/#/join/%s' % (origin, code)


@route('DELETE', '/admin/invites/<number>', role='admin', limit='change', audit='invite-revoke')
def revoke_invite(request, invite_id):
    """Take an invitation back."""
    request.note(invite=invite_id)
    if not request.write(lambda change: change.execute(
            'DELETE FROM invites WHERE id = ?', (invite_id,)).rowcount):
        raise not_found()
    return Reply(204)


def sweep_expired(app, change):
    """Forget links and invitations that no longer work."""
    second = app.service.seconds()
    change.execute('DELETE FROM resets WHERE expires_second <= ?', (second,))
    change.execute('DELETE FROM invites WHERE expires_second <= ? OR uses_left < 1', (second,))


# -- bots

@route('POST', '/admin/bots', role='admin', limit='change', audit='bot-make')
def make_bot(request, username: Username):
    """Make an account for a program, which comes in with the token that is shown once."""
    request.note(target=username)

    def make(change):
        require_rank(change, request)
        user_id = add_account(request.app, change, username, '', 'bot')
        return get_user(request.app, change, user_id), request.app.tokens.make(change, user_id, username)[1]
    user, text = request.write(make)
    return Reply(201, {'user': user, 'token': text})


@route('POST', '/admin/bots/<account>/token', role='admin', limit='change', audit='bot-token')
def renew_bot_token(request, account):
    """Give a bot a new token; those it had are void."""
    def renew(change):
        require_rank(change, request)
        if account['role'] != 'bot':
            raise not_found()
        request.app.tokens.end(change, 'user_id = ?', account['id'])
        return request.app.tokens.make(change, account['id'], account['username'])[1]
    return Reply(201, {'token': request.write(renew)})


# -- hooks: addresses at which programs post to one channel, each as a bot of its own

@route('GET', '/admin/hooks', role='admin')
def get_hooks(request):
    """The hooks to channels that one may read; their addresses were shown once."""
    rows = request.db.execute('SELECT hooks.*, display_name FROM hooks JOIN users ON users.id = hooks.user_id ORDER BY hooks.id')
    return Reply(200, {'hooks': [
        {'id': row['id'], 'name': row['display_name'], 'channel_id': row['channel_id'], 'user_id': row['user_id'],
         'created_by': row['created_by'], 'created_at': row['created_at']}
        for row in rows.fetchall() if visible_channel(request.db, request, row['channel_id'])]})


@route('POST', '/admin/hooks', role='admin', limit='change', audit='hook-make')
def make_hook(request, channel_id: Id, name: Line(1, 60)):
    """Make an address at which a program posts to a channel that one is in; it is shown once."""
    app, text = request.app, token(request.app.random_bytes, 32)

    def make(change):
        require_rank(change, request)
        require_invitation(request, find_channel(change, request.user_id, request.role, channel_id), [])
        user_id = add_account(app, change, 'hook-' + app.random_bytes(5).hex(), '', 'bot')
        change.update('users', user_id, display_name=name)
        add_member(change, channel_id, user_id)
        tell_channel(change, channel_id)
        return change.insert('hooks', token_hash=digest(text), user_id=user_id, channel_id=channel_id,
                             created_by=request.user_id, created_at=change.now)
    hook_id = request.write(make)
    request.note(hook=hook_id)
    return Reply(201, {'id': hook_id, 'url': '%s/hooks/%s' % (request.origin, text)})


@route('DELETE', '/admin/hooks/<number>', role='admin', limit='change', audit='hook-remove')
def remove_hook(request, hook_id):
    """Remove a hook; what came by it stays."""
    request.note(hook=hook_id)

    def remove(change):
        require_rank(change, request)
        row = change.execute('SELECT * FROM hooks WHERE id = ?', (hook_id,)).fetchone()
        if row is None or not visible_channel(change, request, row['channel_id']):
            raise not_found()
        change.execute('DELETE FROM hooks WHERE id = ?', (hook_id,))
        activate(request.app, change, find_profile(change, row['user_id']), False)
    request.write(remove)
    return Reply(204)


@route('POST', '/hooks/<token>', public=True, limit='send', body='text', anywhere=True)
def post_by_hook(request, secret, text: Text(1, MOST_TEXT)):
    """Post to the channel of a hook."""
    def post(change):
        row = find_hook(change, secret)
        channel = find_channel(change, row['user_id'], 'bot', row['channel_id'])
        require_open(channel)
        add_message(request.app, change, channel, row['user_id'], text, False)
    find_hook(request.db, secret)            # who guesses does not keep the writer busy
    require_words(text, ())
    request.app.store.write(post)
    return Reply(204)


def find_hook(db, secret):
    row = db.execute('SELECT hooks.* FROM hooks JOIN users ON users.id = hooks.user_id WHERE token_hash = ? AND active',
                     (digest(secret),)).fetchone()
    if row is None:
        raise not_found()
    return row


# -- the audit log

@route('GET', '/admin/audit', role='admin', limit='read', lane='thread')
def get_audit(request, page: Whole(1, 100000) = 1, event: Line(0, 40) = '', user: Line(0, 64) = '', q: Line(0, 100) = ''):
    """The audit log, the newest first: all of it, of one event, of one user, or what holds some words."""
    wanted = (line for line in request.app.audit.lines() if is_wanted(line, event, user, q.lower()))
    lines = list(itertools.islice(wanted, (page - 1) * ENTRIES, page * ENTRIES + 1))
    entries = list(filter(None, map(read_audit_line, lines[:ENTRIES])))
    return Reply(200, {'entries': entries, 'more': len(lines) > ENTRIES})


def is_wanted(line, event, user, words):
    """Whether a line of the audit log is one of those asked for."""
    if event and ' event=%s ' % audit_value(event) not in line:
        return False
    if user and ' user=%s ' % audit_value(user).lower() not in line.lower() + ' ':
        return False
    return words in urllib.parse.unquote(line).lower()


# ======================================================================
# THE BOX
# ======================================================================

# ---- 21. TLS ---------------------------------------------------------

# --- This machine's addresses and names

SIOCGIFCONF = 0x8912
INTERFACE_REQUEST_SIZE = struct.calcsize('16sLLHBBB0L')  # struct ifreq: a name and, as its largest member, struct ifmap
INTERFACE_NAME = slice(0, 16)
INTERFACE_ADDRESS = slice(20, 24)  # after the name, the family and the port
PRIVATE_DESTINATIONS = ('10.0.0.1', '172.16.0.1', '192.168.0.1', '169.254.0.1', '100.64.0.1', '::1', 'fd00::1')
DISCARD_PORT = 9
DNS_NAME = re.compile(r'(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*(?=[a-z0-9-]*[a-z])'
                      r'[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z')


def own_addresses():
    """The addresses of this machine, IPv4 before IPv6, found without a packet being sent."""
    found = {ipaddress.ip_address('127.0.0.1')}
    for source in ADDRESS_SOURCES.get(sys.platform, (routed_addresses,)):
        try:
            found.update(source())
        except (OSError, ValueError):
            continue
    return sorted(found, key=lambda address: (address.version, address))


def interface_addresses():
    return (address for _, address in named_ipv4_addresses())


def named_ipv4_addresses():
    """(interface, IPv4 address) of the interfaces that are up, on Linux (netdevice(7))."""
    requests = interface_requests(64)
    for start in range(0, len(requests), INTERFACE_REQUEST_SIZE):
        request = requests[start:start + INTERFACE_REQUEST_SIZE]
        name = request[INTERFACE_NAME].partition(b'\0')[0].partition(b':')[0]      # behind a colon stands an alias
        yield name.decode('ascii', 'replace'), ipaddress.IPv4Address(request[INTERFACE_ADDRESS])


def interface_requests(count):
    """The kernel's table of struct ifreq as bytes, asked for with room for `count`, and for twice as many when full."""
    room = array.array('B', bytes(count * INTERFACE_REQUEST_SIZE))
    question = struct.pack('iL', len(room), room.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        used = struct.unpack('iL', fcntl.ioctl(probe, SIOCGIFCONF, question))[0]
    if used == len(room):
        return interface_requests(count * 2)
    return room.tobytes()[:used]


def ipv6_table_addresses():
    return (address for _, address in named_ipv6_addresses())


def named_ipv6_addresses():
    """(interface, IPv6 address) of the interfaces that are up, on Linux (proc(5))."""
    with open('/proc/net/if_inet6', encoding='ascii') as table:
        for line in table:
            address, *_, name = line.split()
            yield name, ipaddress.IPv6Address(bytes.fromhex(address))


def routed_addresses():
    """The own address on the way to each private range, by connecting a UDP socket, which sends nothing."""
    for destination in PRIVATE_DESTINATIONS:
        family = socket.AF_INET6 if ':' in destination else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((destination, DISCARD_PORT))
                address = probe.getsockname()[0]
        except OSError:
            continue
        yield ipaddress.ip_address(address.split('%')[0])


def host_name_addresses():
    """The addresses of the own host name, which the resolver of Windows knows; another might ask DNS."""
    for *_, address in socket.getaddrinfo(socket.gethostname(), None):
        yield ipaddress.ip_address(address[0].split('%')[0])


ADDRESS_SOURCES = {  # by sys.platform; elsewhere routes alone
    'linux': (interface_addresses, ipv6_table_addresses),
    'win32': (routed_addresses, host_name_addresses),
}


def listening_family(host):
    """The address family and the address to bind; every address is IPv6 with IPv4 mapped into it (RFC 3493)."""
    if host != '*':
        return (socket.AF_INET6 if ':' in host else socket.AF_INET), host
    if not socket.has_ipv6:
        return socket.AF_INET, '0.0.0.0'
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            probe.bind(('::', 0))
        return socket.AF_INET6, '::'
    except OSError:
        return socket.AF_INET, '0.0.0.0'


def own_names():
    """The DNS names of this machine: localhost, the host name, and the name that multicast DNS gives it."""
    host = dns_name(socket.gethostname())
    label = host.split('.')[0]
    if label in ('', 'localhost'):
        return ['localhost']
    return list(collections.OrderedDict.fromkeys(['localhost', host, label, label + '.local']))


def dns_name(text):
    """A host name as lower-case DNS labels (RFC 1123 section 2.1), or '' when nothing of it can be a name."""
    labels = (re.sub('[^a-z0-9]+', '-', label)[:63].strip('-') for label in text.lower().split('.'))
    name = '.'.join(label for label in labels if label)
    return name if DNS_NAME.match(name) else ''


# --- P-256 (SP 800-186 section 3.2.1.3) and ECDSA (FIPS 186-5 section 6)
#
# Not constant in time: it signs a certificate now and then, never at a client's bidding. Handshakes are OpenSSL's.

FIELD_PRIME = 2 ** 256 - 2 ** 224 + 2 ** 192 + 2 ** 96 - 1
GROUP_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551
BASE_POINT = (0x6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296,
              0x4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5)


def base_point_times(scalar):
    """The affine point (x, y) that is `scalar` times the base point, for 1 <= scalar < GROUP_ORDER.

    In that range no partial sum equals plus or minus the base point when it is added, so neither step needs its
    exceptional cases.
    """
    point = BASE_POINT + (1,)
    for bit in bin(scalar)[3:]:
        point = double_point(*point)
        if bit == '1':
            point = add_base_point(*point)
    return affine_point(*point)


def double_point(x, y, z):
    """Twice a point in Jacobian coordinates on a curve with a = -3 (Bernstein and Lange, dbl-2001-b)."""
    p = FIELD_PRIME
    delta, gamma = z * z % p, y * y % p
    beta, alpha = x * gamma % p, 3 * (x - delta) * (x + delta) % p
    doubled_x = (alpha * alpha - 8 * beta) % p
    doubled_y = (alpha * (4 * beta - doubled_x) - 8 * gamma * gamma) % p
    return doubled_x, doubled_y, ((y + z) ** 2 - gamma - delta) % p


def add_base_point(x, y, z):
    """A point in Jacobian coordinates plus the base point (Hankerson, Menezes, Vanstone, algorithm 3.22)."""
    p = FIELD_PRIME
    square = z * z % p
    run = (BASE_POINT[0] * square - x) % p
    rise = (BASE_POINT[1] * square * z - y) % p
    run_squared = run * run % p
    run_cubed, shift = run * run_squared % p, x * run_squared % p
    sum_x = (rise * rise - run_cubed - 2 * shift) % p
    return sum_x, (rise * (shift - sum_x) - y * run_cubed) % p, z * run % p


def affine_point(x, y, z):
    """A point in Jacobian coordinates as (x, y)."""
    inverse = modular_inverse(z, FIELD_PRIME)
    square = inverse * inverse % FIELD_PRIME
    return x * square % FIELD_PRIME, y * square * inverse % FIELD_PRIME


def modular_inverse(number, prime):
    """The inverse by Fermat's little theorem; pow() takes -1 only from Python 3.8 on."""
    return pow(number, prime - 2, prime)


def new_private_key(random_bytes):
    """A private key drawn by testing candidates (FIPS 186-5 appendix A.2.2); `random_bytes(n)` gives n octets."""
    while True:
        candidate = int.from_bytes(random_bytes(32), 'big')
        if 0 < candidate < GROUP_ORDER:
            return candidate


def ecdsa_sign(private_key, message):
    """The ECDSA-SHA256 signature (r, s) of a message."""
    digest = hashlib.sha256(message).digest()
    for nonce in ecdsa_nonces(private_key, digest):
        r = base_point_times(nonce)[0] % GROUP_ORDER
        s = modular_inverse(nonce, GROUP_ORDER) * (int.from_bytes(digest, 'big') + r * private_key) % GROUP_ORDER
        if r and s:
            return r, s


def ecdsa_nonces(private_key, digest):
    """The deterministic nonces for a SHA-256 digest, best first (RFC 6979 section 3.2)."""
    reduced = int.from_bytes(digest, 'big') % GROUP_ORDER
    seed = private_key.to_bytes(32, 'big') + reduced.to_bytes(32, 'big')
    key, value = bytes(32), b'\1' * 32
    for separator in (b'\0', b'\1'):
        key = hmac_sha256(key, value + separator + seed)
        value = hmac_sha256(key, value)
    while True:
        value = hmac_sha256(key, value)
        if 0 < int.from_bytes(value, 'big') < GROUP_ORDER:
            yield int.from_bytes(value, 'big')
        key = hmac_sha256(key, value + b'\0')
        value = hmac_sha256(key, value)


def hmac_sha256(key, message):
    """HMAC (RFC 2104) with SHA-256."""
    return hmac.new(key, message, hashlib.sha256).digest()


# --- DER (X.690) and PEM (RFC 7468)

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OBJECT_IDENTIFIER = 0x01, 0x02, 0x03, 0x04, 0x06
UTF8_STRING, UTC_TIME, GENERALIZED_TIME, SEQUENCE, SET = 0x0c, 0x17, 0x18, 0x30, 0x31
DNS_NAME_TAG, IP_ADDRESS_TAG = 0x82, 0x87  # of a GeneralName (RFC 5280 section 4.2.1.6)
OBJECTS = {
    'commonName': '2.5.4.3',
    'subjectKeyIdentifier': '2.5.29.14',
    'keyUsage': '2.5.29.15',
    'subjectAltName': '2.5.29.17',
    'basicConstraints': '2.5.29.19',
    'nameConstraints': '2.5.29.30',
    'authorityKeyIdentifier': '2.5.29.35',
    'extKeyUsage': '2.5.29.37',
    'serverAuth': '1.3.6.1.5.5.7.3.1',
    'ecPublicKey': '1.2.840.10045.2.1',
    'prime256v1': '1.2.840.10045.3.1.7',
    'ecdsa-with-SHA256': '1.2.840.10045.4.3.2',
}
EPOCH = datetime.datetime(1970, 1, 1)
LAST_SECOND = 253402300799  # 9999-12-31T23:59:59Z, the last that a certificate can tell

Element = collections.namedtuple('Element', 'tag contents whole')


def der(tag, *contents):
    """One element: tag, length, contents."""
    body = b''.join(contents)
    if len(body) < 128:
        return bytes((tag, len(body))) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, 'big')
    return bytes((tag, 0x80 | len(length))) + length + body


def der_integer(number):
    """A non-negative INTEGER."""
    return der(INTEGER, number.to_bytes(number.bit_length() // 8 + 1, 'big'))


def der_bits(octets):
    """A BIT STRING of whole octets."""
    return der(BIT_STRING, b'\0', octets)


def der_object(name):
    """The OBJECT IDENTIFIER of a name in OBJECTS (X.690 section 8.19)."""
    first, second, *rest = (int(number) for number in OBJECTS[name].split('.'))
    return der(OBJECT_IDENTIFIER, *(base128(number) for number in [first * 40 + second] + rest))


def base128(number):
    """A number in groups of seven bits, all but the last marked by the highest bit."""
    octets = [number & 0x7f]
    while number > 0x7f:
        number >>= 7
        octets.insert(0, 0x80 | number & 0x7f)
    return bytes(octets)


def der_time(seconds):
    """A moment: UTCTime through 2049 and GeneralizedTime from 2050 on (RFC 5280 section 4.1.2.5)."""
    moment = EPOCH + datetime.timedelta(seconds=int(min(seconds, LAST_SECOND)))
    if moment.year < 2050:
        return der(UTC_TIME, moment.strftime('%y%m%d%H%M%SZ').encode())
    return der(GENERALIZED_TIME, moment.strftime('%Y%m%d%H%M%SZ').encode())


def read_der(data):
    """The elements that stand one after another in `data`; ValueError when it is not DER."""
    elements, start = [], 0
    while start < len(data):
        body, end = element_bounds(data, start)
        elements.append(Element(data[start], data[body:end], data[start:end]))
        start = end
    return elements


def element_bounds(data, start):
    """Where the contents of the element at `start` begin and end."""
    body = start + 2
    length = int.from_bytes(data[start + 1:body], 'big')
    if length & 0x80:
        body += length & 0x7f
        length = int.from_bytes(data[start + 2:body], 'big')
    if body > len(data) or body + length > len(data) or length < 0x80 <= data[start + 1]:
        raise ValueError('not DER')
    return body, body + length


def read_time(element):
    """A UTCTime or GeneralizedTime in seconds since the epoch."""
    text = element.contents.decode('ascii')
    if element.tag == UTC_TIME:
        text = ('19' if text >= '50' else '20') + text
    return int((datetime.datetime.strptime(text, '%Y%m%d%H%M%SZ') - EPOCH).total_seconds())


def pem(label, data):
    """DER as PEM text."""
    text = base64.b64encode(data).decode()
    lines = [text[start:start + 64] for start in range(0, len(text), 64)]
    return '\n'.join(['-----BEGIN {}-----'.format(label)] + lines + ['-----END {}-----\n'.format(label)]).encode()


def pem_blocks(label, text):
    """The DER of every whole block of that label; a block that is not base64 counts as none."""
    frame = '-----BEGIN {0}-----(.*?)-----END {0}-----'.format(re.escape(label)).encode()
    blocks = []
    for body in re.findall(frame, text, re.DOTALL):
        try:
            blocks.append(base64.b64decode(b''.join(body.split()), validate=True))
        except ValueError:
            continue
    return blocks


# --- Keys and X.509 certificates (RFC 5280)

DAY = 24 * 60 * 60
EARLIEST = 1767225600  # 2026-01-01: a clock that tells less has not been set
BACKDATED = DAY  # clients' clocks may be behind
AUTHORITY_LIFETIME = 3650 * DAY
SERVER_LIFETIME = 397 * DAY
RENEWED_BEFORE = 30 * DAY
LOCAL_NAMES = ('localhost', 'local', 'lan', 'home.arpa', 'internal')
LOCAL_NETWORKS = tuple(ipaddress.ip_network(network) for network in (
    '10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '169.254.0.0/16', '100.64.0.0/10', '127.0.0.0/8',
    '::1/128', 'fc00::/7', 'fe80::/10'))
CERTIFICATE, PRIVATE_KEY = 'CERTIFICATE', 'EC PRIVATE KEY'
ANY_PRIVATE_KEY = re.compile(b'-----BEGIN [A-Z ]*PRIVATE KEY-----.*-----END ', re.DOTALL)
SIGNATURE_ALGORITHM = der(SEQUENCE, der_object('ecdsa-with-SHA256'))
KEY_ALGORITHM = der(SEQUENCE, der_object('ecPublicKey'), der_object('prime256v1'))
CRITICAL = der(BOOLEAN, b'\xff')
KEY_CERT_SIGN_AND_CRL_SIGN = der(BIT_STRING, b'\1\6')
DIGITAL_SIGNATURE = der(BIT_STRING, b'\7\x80')

# A host is a DNS name (str) or an address (ipaddress object); what a constraint permits is a name or a network.
KeyPair = collections.namedtuple('KeyPair', 'private point info identifier')
Certificate = collections.namedtuple('Certificate', 'whole issuer subject since until info hosts permitted')


def key_pair(private_key):
    """A private key together with its public point, SubjectPublicKeyInfo and key identifier (RFC 7093 section 2)."""
    point = b'\4' + b''.join(number.to_bytes(32, 'big') for number in base_point_times(private_key))
    info = der(SEQUENCE, KEY_ALGORITHM, der_bits(point))
    return KeyPair(private_key, point, info, hashlib.sha256(point).digest()[:20])


def private_key_pem(key):
    """The key pair as an ECPrivateKey (RFC 5915 section 3)."""
    return pem(PRIVATE_KEY, der(
        SEQUENCE, der_integer(1), der(OCTET_STRING, key.private.to_bytes(32, 'big')),
        der(0xa0, der_object('prime256v1')), der(0xa1, der_bits(key.point))))


def read_private_key(text):
    """The key pair of a PEM text that private_key_pem() made, or None."""
    try:
        (sequence,) = read_der(pem_blocks(PRIVATE_KEY, text)[0])
        version, private_key, curve, *_ = read_der(sequence.contents)
    except (ValueError, IndexError):
        return None
    number = int.from_bytes(private_key.contents, 'big')
    if curve.contents != der_object('prime256v1') or not 0 < number < GROUP_ORDER:
        return None
    return key_pair(number)


def x509_extension(name, value, critical=False):
    """One extension of a certificate."""
    return der(SEQUENCE, der_object(name), CRITICAL if critical else b'', der(OCTET_STRING, value))


def key_identifier_extensions(key, issuer_identifier):
    """The two extensions by which a chain is found (RFC 5280 sections 4.2.1.1 and 4.2.1.2)."""
    return [x509_extension('subjectKeyIdentifier', der(OCTET_STRING, key.identifier)),
            x509_extension('authorityKeyIdentifier', der(SEQUENCE, der(0x80, issuer_identifier)))]


def distinguished_name(common_name):
    """A Name of a common name alone."""
    attribute = der(SEQUENCE, der_object('commonName'), der(UTF8_STRING, common_name.encode()))
    return der(SEQUENCE, der(SET, attribute))


def general_name(host):
    """A host, or what a constraint permits, as a GeneralName (RFC 5280 sections 4.2.1.6 and 4.2.1.10)."""
    if isinstance(host, str):
        return der(DNS_NAME_TAG, host.encode('ascii'))
    if hasattr(host, 'netmask'):
        return der(IP_ADDRESS_TAG, host.network_address.packed, host.netmask.packed)
    return der(IP_ADDRESS_TAG, host.packed)


def issue_certificate(issuer, signer, subject, key, lifetime, extensions, random_bytes):
    """A certificate in DER for `key`, signed by the key pair `signer`; `lifetime` is (since, until) in seconds."""
    serial_number = int.from_bytes(random_bytes(20), 'big') >> 2 | 1 << 157  # positive, and always 20 octets
    content = der(
        SEQUENCE, der(0xa0, der_integer(2)), der_integer(serial_number), SIGNATURE_ALGORITHM, issuer,
        der(SEQUENCE, *map(der_time, lifetime)), subject, key.info, der(0xa3, der(SEQUENCE, *extensions)))
    signature = der(SEQUENCE, *map(der_integer, ecdsa_sign(signer.private, content)))
    return der(SEQUENCE, content, SIGNATURE_ALGORITHM, der_bits(signature))


def issue_authority(key, hosts, now, random_bytes):
    """The certificate of an authority that can vouch for local hosts and the given ones alone.

    The key identifier in its name tells apart the authorities of two machines of one name.
    """
    name = distinguished_name('MiniMost CA of {} {}'.format(certificate_title(hosts), key.identifier[:4].hex()))
    permitted = [der(SEQUENCE, general_name(base)) for base in permitted_bases(hosts)]
    extensions = [
        x509_extension('basicConstraints', der(SEQUENCE, CRITICAL, der_integer(0)), critical=True),
        x509_extension('keyUsage', KEY_CERT_SIGN_AND_CRL_SIGN, critical=True),
        x509_extension('nameConstraints', der(SEQUENCE, der(0xa0, *permitted)), critical=True)]
    since = now - BACKDATED
    return issue_certificate(name, key, name, key, (since, since + AUTHORITY_LIFETIME),
                             extensions + key_identifier_extensions(key, key.identifier), random_bytes)


def issue_server(authority, signer, key, hosts, now, random_bytes):
    """The certificate of the server under these hosts."""
    extensions = [
        x509_extension('keyUsage', DIGITAL_SIGNATURE, critical=True),
        x509_extension('extKeyUsage', der(SEQUENCE, der_object('serverAuth'))),
        x509_extension('subjectAltName', der(SEQUENCE, *map(general_name, hosts)))]
    since = now - BACKDATED
    name = distinguished_name('MiniMost on ' + certificate_title(hosts))
    return issue_certificate(authority.subject, signer, name, key, (since, since + SERVER_LIFETIME),
                             extensions + key_identifier_extensions(key, signer.identifier), random_bytes)


def certificate_title(hosts):
    """What to call a machine of these hosts, short enough for a common name (RFC 5280 appendix A.1: 64)."""
    names = [host for host in hosts if isinstance(host, str) and host != 'localhost']
    return (names or ['localhost'])[0][:40]


def permitted_bases(hosts):
    """The names and networks that an authority born among these hosts may vouch for."""
    bases = list(LOCAL_NAMES + LOCAL_NETWORKS)
    for host in hosts:
        if not is_permitted(host, bases):
            bases.append(host if isinstance(host, str) else ipaddress.ip_network(host))
    return bases


def is_permitted(host, bases):
    """Whether a host lies within one of the names and networks (RFC 5280 section 4.2.1.10)."""
    if isinstance(host, str):
        return any(('.' + host).endswith('.' + base) for base in bases if isinstance(base, str))
    return any(host in base for base in bases if not isinstance(base, str))


def is_host(host):
    """Whether a certificate can name it: an address, or a name of valid labels."""
    return not isinstance(host, str) or DNS_NAME.match(host) is not None


def read_certificates(text):
    """The certificates of a PEM text that can be read, in order."""
    certificates = []
    for block in pem_blocks(CERTIFICATE, text):
        try:
            certificates.append(read_certificate(block))
        except (ValueError, IndexError):
            continue
    return certificates


def read_certificate(data):
    """What must be known of a certificate (RFC 5280 section 4.1); ValueError or IndexError when it is not one."""
    (whole,) = read_der(data)
    fields = read_der(read_der(whole.contents)[0].contents)
    if fields[0].tag == 0xa0:
        fields = fields[1:]
    issuer, validity, subject, info = fields[2:6]
    since, until = map(read_time, read_der(validity.contents))
    extensions = read_extensions(fields[6:])
    return Certificate(
        data, issuer.whole, subject.whole, since, until, info.whole,
        hosts=read_hosts(extensions.get(der_object('subjectAltName'), b'\x30\0')),
        permitted=read_permitted(extensions.get(der_object('nameConstraints'), b'\x30\0')))


def read_extensions(fields):
    """{object identifier in DER: value} of the extensions among the last fields of a certificate."""
    extensions = {}
    for field in fields:
        if field.tag == 0xa3:
            for element in read_der(read_der(field.contents)[0].contents):
                identifier, *_, value = read_der(element.contents)
                extensions[identifier.whole] = value.contents
    return extensions


def read_hosts(value):
    """The hosts of a subjectAltName; names of other kinds are passed over."""
    hosts = []
    for element in read_der(read_der(value)[0].contents):
        if element.tag == DNS_NAME_TAG:
            hosts.append(element.contents.decode('ascii'))
        elif element.tag == IP_ADDRESS_TAG:
            hosts.append(ipaddress.ip_address(element.contents))
    return hosts


def read_permitted(value):
    """The names and networks that a nameConstraints permits."""
    bases = []
    for subtrees in read_der(read_der(value)[0].contents):
        for subtree in read_der(subtrees.contents) if subtrees.tag == 0xa0 else ():
            base = read_der(subtree.contents)[0]
            if base.tag == DNS_NAME_TAG:
                bases.append(base.contents.decode('ascii'))
            elif base.tag == IP_ADDRESS_TAG:
                bases.append(read_network(base.contents))
    return bases


def read_network(octets):
    """A network from its address and mask, one after the other."""
    half = len(octets) // 2
    length = bin(int.from_bytes(octets[half:], 'big')).count('1')
    return ipaddress.ip_network('{}/{}'.format(ipaddress.ip_address(octets[:half]), length))


def fingerprint_of(data):
    """SHA-256 as browsers show it: pairs of upper-case hexadecimal digits, separated by colons."""
    return ':'.join('{:02X}'.format(octet) for octet in hashlib.sha256(data).digest())


# --- The certificates in the data folder

AUTHORITY_FILE, AUTHORITY_KEY_FILE = 'ca.pem', 'ca-key.pem'
SERVER_FILE, SERVER_KEY_FILE = 'cert.pem', 'key.pem'
BLANK = b'\0 \t\r\n'  # what a power cut leaves of a file that was never synced


class CertificateTrouble(Exception):
    """No certificate can be had; the message says why."""


class Certificates:
    """The server's certificate in a folder and, unless the operator brought one, the authority that signs it.

    cert.pem holds the server's certificate and then the authority's; key.pem its key; ca.pem and ca-key.pem are the
    authority's. A cert.pem that ca.pem did not issue is the operator's, and then nothing in the folder is ever written.
    `clock()` gives seconds since the epoch, `random_bytes(n)` n octets.
    """

    def __init__(self, folder, clock, random_bytes=os.urandom):
        self.left_out = []  # hosts, as text, that the authority may not vouch for
        self.trouble = None  # why the last renewal failed while an older certificate still serves
        self._folder = folder
        self._clock = clock
        self._random_bytes = random_bytes

    @property
    def ours(self):
        """Whether the certificate is, or is to be, issued by the authority in the folder."""
        text = self._read(SERVER_FILE)
        if not text.strip(BLANK):
            return True
        authority = self._authority()
        if authority is None:
            return False
        if not pem_blocks(CERTIFICATE, text):
            return True
        return any(certificate.issuer == authority.subject for certificate in read_certificates(text)[:1])

    def refresh(self, addresses, names):
        """Make what is missing, renew what is due; True when a new server certificate was written.

        Raises CertificateTrouble when that fails and no older certificate serves instead.
        """
        self.left_out, self.trouble = [], None
        try:
            return self.ours and self._renew([name.lower() for name in names] + list(addresses))
        except (OSError, CertificateTrouble) as error:
            self.trouble = str(error)
        if not self._serves():
            raise CertificateTrouble(self.trouble)
        return False

    def context(self):
        """A server's SSLContext with the certificate loaded; CertificateTrouble when it cannot be."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.options |= ssl.OP_NO_COMPRESSION | getattr(ssl, 'OP_NO_RENEGOTIATION', 0)
        if hasattr(context, 'minimum_version'):
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        else:
            context.options |= ssl.OP_NO_SSLv2 | ssl.OP_NO_SSLv3 | ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1
        if hasattr(context, 'num_tickets'):
            context.num_tickets = 1
        if ssl.HAS_ALPN:
            context.set_alpn_protocols(['http/1.1'])
        self._load(context)
        return context

    def reload(self, context):
        """Load the certificate and key as they are now into a context in use; later handshakes show them.

        Not to be called while another thread wraps a socket with that context: OpenSSL does not lock it.
        """
        self.context()  # a pair that cannot be used must not spoil the context in use
        self._load(context)

    def fingerprint(self):
        """The SHA-256 fingerprint of the server's certificate, or None."""
        return self._fingerprint(SERVER_FILE)

    def authority(self):
        """The authority's certificate in DER, or None."""
        return next((one.whole for one in self._certificates(AUTHORITY_FILE)), None)

    def authority_fingerprint(self):
        """The SHA-256 fingerprint of the authority, or None."""
        return self._fingerprint(AUTHORITY_FILE)

    def _load(self, context):
        try:
            # An empty password, or OpenSSL would ask for the one of an encrypted key on the terminal.
            context.load_cert_chain(self._path(SERVER_FILE), self._path(SERVER_KEY_FILE), password='')
        except (OSError, ValueError) as error:
            raise CertificateTrouble('{} and {} cannot be used: {}'.format(SERVER_FILE, SERVER_KEY_FILE, error))

    def _renew(self, hosts):
        authority = self._authority()
        if authority is None:
            authority = self._make_authority(hosts)
        elif not self._certificates(AUTHORITY_FILE):
            save(self._path(AUTHORITY_FILE), pem(CERTIFICATE, authority.whole))
        permitted = self._leave_out(hosts, authority)
        if not self._is_due(authority, permitted):
            return False
        signer = self._authority_key(authority)
        key = self._key(SERVER_KEY_FILE)
        server = issue_server(authority, signer, key, permitted, self._now(), self._random_bytes)
        save(self._path(SERVER_FILE), pem(CERTIFICATE, server) + pem(CERTIFICATE, authority.whole))
        return True

    def _leave_out(self, hosts, authority):
        hosts = list(collections.OrderedDict.fromkeys(hosts))
        permitted = [host for host in hosts if is_host(host) and is_permitted(host, authority.permitted)]
        self.left_out = [str(host) for host in hosts if host not in permitted]
        return permitted

    def _is_due(self, authority, hosts):
        chain = self._certificates(SERVER_FILE)
        key = read_private_key(self._read(SERVER_KEY_FILE))
        if key is None or [certificate.whole for certificate in chain[1:]] != [authority.whole]:
            return True
        server, now = chain[0], self._now()
        in_time = server.since <= now <= server.until - RENEWED_BEFORE
        return not in_time or server.info != key.info or not set(hosts) <= set(server.hosts)

    def _now(self):
        """The clock's time or, where it was never set, the latest time that the certificates prove to have passed."""
        now = self._clock()
        if now >= EARLIEST:
            return now
        known = self._certificates(AUTHORITY_FILE) + self._certificates(SERVER_FILE)
        return max([EARLIEST] + [certificate.since + BACKDATED for certificate in known])

    def _authority(self):
        """The authority of ca.pem or, where that was lost, the one in cert.pem that ca-key.pem belongs to; or None."""
        for authority in self._certificates(AUTHORITY_FILE):
            return authority
        key = read_private_key(self._read(AUTHORITY_KEY_FILE))
        for certificate in self._certificates(SERVER_FILE)[1:]:
            if key is not None and certificate.info == key.info:
                return certificate
        return None

    def _make_authority(self, hosts):
        key = self._key(AUTHORITY_KEY_FILE)
        whole = issue_authority(key, [host for host in hosts if is_host(host)], self._now(), self._random_bytes)
        save(self._path(AUTHORITY_FILE), pem(CERTIFICATE, whole))
        return read_certificate(whole)

    def _authority_key(self, authority):
        key = read_private_key(self._read(AUTHORITY_KEY_FILE))
        if key is None or key.info != authority.info:
            raise CertificateTrouble('{} is missing or does not belong to {}, so no certificate can be issued'.format(
                AUTHORITY_KEY_FILE, AUTHORITY_FILE))
        return key

    def _key(self, name):
        """The key pair in a file, made and saved first where the file is missing, blank or cut short."""
        text = self._read(name)
        key = read_private_key(text)
        if key is not None:
            return key
        if ANY_PRIVATE_KEY.search(text):
            raise CertificateTrouble('{} holds a key of another kind and is left alone'.format(name))
        key = key_pair(new_private_key(self._random_bytes))
        save(self._path(name), private_key_pem(key))
        return key

    def _serves(self):
        try:
            self.context()
        except CertificateTrouble:
            return False
        return True

    def _fingerprint(self, name):
        for certificate in pem_blocks(CERTIFICATE, self._read(name)):
            return fingerprint_of(certificate)
        return None

    def _certificates(self, name):
        return read_certificates(self._read(name))

    def _read(self, name):
        try:
            with open(self._path(name), 'rb') as file:
                return file.read()
        except FileNotFoundError:
            return b''

    def _path(self, name):
        return os.path.join(self._folder, name)


# --- What a device needs to trust the authority

PROFILE_SPACE = uuid.UUID('5b0f4b5e-6f7c-4c53-9d7c-0b7f0c9d3c11')   # names the profiles, so that a second download replaces the first


def certificate_kind(request):
    """Whose certificate the peer was shown: 'own', of the authority here, the 'operator', or 'none' on plain HTTP."""
    if not request.is_secure:
        return 'none'
    is_own = request.app.context is not None and not request.is_proxied and request.app.certificates.ours
    return 'own' if is_own else 'operator'


def authority_of(request):
    """The authority's certificate in DER; not found where it is not what vouches for this server."""
    whole = request.app.certificates.authority()
    if whole is None or certificate_kind(request) != 'own':
        raise not_found()
    return whole


def download(content, content_type, ending):
    return Reply(200, content=content, content_type=content_type,
                 headers=[('Content-Disposition', 'attachment; filename="minimost-ca.%s"' % ending)])


@route('GET', '/ca.pem', public=True)
def get_authority(request):
    """The certificate authority's certificate, for devices that shall trust this server."""
    return download(pem(CERTIFICATE, authority_of(request)), 'application/x-pem-file', 'pem')


@route('GET', '/ca.crt', public=True)
def get_binary_authority(request):
    """The same certificate in DER, which Windows and Android open by themselves."""
    return download(authority_of(request), 'application/x-x509-ca-cert', 'crt')


@route('GET', '/ca.mobileconfig', public=True)
def get_authority_profile(request):
    """The same certificate as a configuration profile, for Apple's systems."""
    profile = authority_profile(request.app.settings.name, authority_of(request))
    return download(plistlib.dumps(profile), 'application/x-apple-aspen-config', 'mobileconfig')


def authority_profile(place, whole):
    """An unsigned profile (Apple, Configuration Profile Reference, payload com.apple.security.root)."""
    number = fingerprint_of(whole)
    payload = {'PayloadType': 'com.apple.security.root', 'PayloadContent': whole, 'PayloadCertificateFileName': 'minimost-ca.crt',
               'PayloadDisplayName': 'Certificate authority of ' + place}
    return dict(profile_part(number, 'profile'), PayloadType='Configuration', PayloadDisplayName=place,
                PayloadDescription='Has this device trust the chat server of %s. SHA-256: %s' % (place, number),
                PayloadContent=[dict(profile_part(number, 'authority'), **payload)])


def profile_part(number, name):
    identifier = 'minimost.%s.%s' % (number[:23].replace(':', '').lower(), name)
    return {'PayloadVersion': 1, 'PayloadIdentifier': identifier,
            'PayloadUUID': str(uuid.uuid5(PROFILE_SPACE, number + name)).upper()}


@route('GET', '/trust', public=True, limit='read')
def get_trust_page(request):
    """How a device comes to trust this server."""
    app = request.app
    if 'trust.html' not in app.assets.parts:
        raise not_found()
    texts = {'place': app.settings.name, 'certificate': certificate_kind(request), 'origin': request.origin,
             'fingerprint': app.certificates.authority_fingerprint() or ''}
    page = app.assets.parts['trust.html'].content.decode('utf-8')
    page = re.sub('{{([a-z]+)}}', lambda found: html.escape(texts[found.group(1)]), page)
    return Reply(200, content=page.encode('utf-8'), content_type=TYPES['.html'], headers=page_headers(request))


# ---- 22. JOINING -----------------------------------------------------
#
# QR codes after ISO/IEC 18004:2015: byte mode, error correction level M, versions 1 to 10. A matrix is a list of rows,
# 1 is dark.

QR_BLOCKS = (           # table 9, level M: of each version the error correction bytes of a block and the data bytes of each
    (10, [16]), (16, [28]), (26, [44]), (18, [32] * 2), (24, [43] * 2), (16, [27] * 4), (18, [31] * 4),
    (22, [38] * 2 + [39] * 2), (22, [36] * 3 + [37] * 2), (26, [43] * 4 + [44]))
QR_ALIGNMENT = (        # annex E: where the centres of the alignment patterns lie, along both edges
    (), (6, 18), (6, 22), (6, 26), (6, 30), (6, 34), (6, 22, 38), (6, 24, 42), (6, 26, 46), (6, 28, 50))
QR_MASKS = (            # table 10: which modules each mask turns over
    lambda row, column: (row + column) % 2 == 0,
    lambda row, column: row % 2 == 0,
    lambda row, column: column % 3 == 0,
    lambda row, column: (row + column) % 3 == 0,
    lambda row, column: (row // 2 + column // 3) % 2 == 0,
    lambda row, column: row * column % 2 + row * column % 3 == 0,
    lambda row, column: (row * column % 2 + row * column % 3) % 2 == 0,
    lambda row, column: ((row + column) % 2 + row * column % 3) % 2 == 0)
QR_FORMAT, QR_VERSION = 0x537, 0x1F25        # generators of the codes for format and version, annexes C and D
QR_FORMAT_MASK = 0x5412
QR_HALF_BLOCKS = '\u2588\u2580\u2584 '      # both light, the upper, the lower, neither
QR_QUIET = 4                                 # light modules all around, section 6.3.8


def qr_matrix(content):
    """The QR code of some bytes; ValueError when there are more than 213."""
    version = qr_version(content)
    bits = qr_bits(content, version)
    codes = [qr_masked(version, bits, number) for number in range(len(QR_MASKS))]
    return min(codes, key=qr_penalty)


def qr_version(content):
    for version, (_, blocks) in enumerate(QR_BLOCKS, 1):
        if len(content) + (2 if version < 10 else 3) <= sum(blocks):
            return version
    raise ValueError('%d bytes are too many for a QR code' % len(content))


def qr_bits(content, version):
    """The data and its error correction as bits, interleaved block by block (sections 7.4 to 7.6)."""
    correction, sizes = QR_BLOCKS[version - 1]
    count = '{:08b}' if version < 10 else '{:016b}'
    bits = '0100' + count.format(len(content)) + ''.join(map('{:08b}'.format, content)) + '0000'
    data = bytes(int(bits[place:place + 8].ljust(8, '0'), 2) for place in range(0, len(bits), 8))
    stream = io.BytesIO(data + b'\xec\x11' * sum(sizes))
    blocks = [stream.read(size) for size in sizes]
    remainders = [qr_correction(block, correction) for block in blocks]
    columns = [block[place:place + 1] for place in range(max(sizes)) for block in blocks]
    columns += [block[place:place + 1] for place in range(correction) for block in remainders]
    return ''.join(map('{:08b}'.format, b''.join(columns)))


def qr_correction(block, count):
    """The `count` Reed-Solomon bytes of a block (annex A)."""
    generator = qr_generator(count)
    remainder = list(block) + [0] * count
    for place in range(len(block)):
        lead = remainder[place]
        for step, factor in enumerate(generator):
            remainder[place + step] ^= gf_multiply(factor, lead)
    return bytes(remainder[-count:])


@functools.lru_cache(None)
def qr_generator(count):
    """The product of (x - 2^n) for n below `count`, highest power first."""
    polynomial, root = [1], 1
    for _ in range(count):
        longer = polynomial + [0]
        for place, factor in enumerate(polynomial):
            longer[place + 1] ^= gf_multiply(factor, root)
        polynomial, root = longer, gf_multiply(root, 2)
    return polynomial


@functools.lru_cache(None)
def gf_multiply(left, right):
    """The product in the field of 256 elements with x^8 + x^4 + x^3 + x^2 + 1."""
    product = 0
    while right:
        if right & 1:
            product ^= left
        left = left << 1 ^ (0x11D if left & 0x80 else 0)
        right >>= 1
    return product


def qr_masked(version, bits, number):
    """The matrix under one of the masks."""
    matrix = qr_frame(version, number)
    coming, mask = iter(bits), QR_MASKS[number]
    for row, column in qr_path(matrix):
        matrix[row][column] = int(next(coming, '0')) ^ mask(row, column)
    return matrix


def qr_path(matrix):
    """The free places in the order in which bits are laid: two columns at a time, up and down (section 7.7.3)."""
    size = len(matrix)
    free = [[cell is None for cell in line] for line in matrix]
    pairs = list(range(size - 1, 6, -2)) + [5, 3, 1]         # column 6 is taken
    for number, right in enumerate(pairs):
        for row in (range(size) if number % 2 else range(size - 1, -1, -1)):
            yield from ((row, column) for column in (right, right - 1) if free[row][column])


def qr_frame(version, mask):
    """What stands in every code of a version and a mask; None where bits go (section 6.3)."""
    size = 17 + 4 * version
    matrix = [[None] * size for _ in range(size)]
    for row, column in ((0, 0), (0, size - 7), (size - 7, 0)):
        qr_square(matrix, row + 3, column + 3, (1, 1, 0, 1, 0))
    for place in range(8, size - 8):
        matrix[6][place] = matrix[place][6] = 1 - place % 2
    centres, last = QR_ALIGNMENT[version - 1], size - 7
    for row, column in itertools.product(centres, centres):
        if (row, column) not in ((6, 6), (6, last), (last, 6)):
            qr_square(matrix, row, column, (1, 0, 1))
    qr_information(matrix, version, mask)
    return matrix


def qr_square(matrix, row, column, rings):
    """Draw rings around a centre, the innermost first; what lies outside the matrix is left out."""
    reach = range(1 - len(rings), len(rings))
    for down, right in itertools.product(reach, reach):
        if 0 <= row + down < len(matrix) and 0 <= column + right < len(matrix):
            matrix[row + down][column + right] = rings[max(abs(down), abs(right))]


def qr_information(matrix, version, mask):
    """Write the level and the mask, and from version 7 on the version, each twice (sections 7.9 and 7.10)."""
    size = len(matrix)
    corner = [(row, 8) for row in (0, 1, 2, 3, 4, 5, 7, 8)] + [(8, column) for column in (7, 5, 4, 3, 2, 1, 0)]
    edges = [(8, size - 1 - place) for place in range(8)] + [(size - 7 + place, 8) for place in range(7)]
    bits = qr_remainder(mask, 10, QR_FORMAT) ^ QR_FORMAT_MASK        # level M is 00
    for place, twins in enumerate(zip(corner, edges)):
        for row, column in twins:
            matrix[row][column] = bits >> place & 1
    matrix[size - 8][8] = 1
    bits = qr_remainder(version, 12, QR_VERSION)
    for place in range(18 if version >= 7 else 0):
        row, column = place // 3, size - 11 + place % 3
        matrix[row][column] = matrix[column][row] = bits >> place & 1


def qr_remainder(value, length, generator):
    """A value followed by the `length` bits of its remainder by a generator (annexes C and D)."""
    bits = value << length
    for place in range(value.bit_length() - 1, -1, -1):
        if bits >> place + length & 1:
            bits ^= generator << place
    return value << length | bits


def qr_penalty(matrix):
    """How ill a matrix can be read (section 7.8.3)."""
    lines = [''.join(map(str, map(int, line))) for line in itertools.chain(matrix, zip(*matrix))]
    runs = sum(len(run) - 2 for line in lines for run in re.findall('0{5,}|1{5,}', line))
    squares = sum(len(set(above[place:place + 2] + below[place:place + 2])) == 1
                  for above, below in zip(matrix, matrix[1:]) for place in range(len(matrix) - 1))
    finders = sum(len(re.findall('(?=00001011101|10111010000)', line)) for line in lines)
    share = sum(map(sum, matrix)) / len(matrix) ** 2
    return runs + 3 * squares + 40 * finders + 10 * int(abs(share - .5) * 20)


@functools.lru_cache(maxsize=64)
def qr_svg(content):
    """A QR code as a picture."""
    matrix = qr_matrix(content)
    size = len(matrix) + 2 * QR_QUIET
    dark = ''.join('M%d %dh1v1h-1z' % (column + QR_QUIET, row + QR_QUIET)
                   for row, line in enumerate(matrix) for column, cell in enumerate(line) if cell)
    return ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges">'
            '<path fill="#fff" d="M0 0h%dv%dH0z"/><path d="%s"/></svg>' % (size, size, size, size, dark)).encode()


def qr_text(content, encoding):
    """A QR code for a terminal, two rows a line where it can print half blocks. What is printed is light: most are dark."""
    matrix, side = qr_matrix(content), [0] * QR_QUIET
    edges = [[0] * (len(matrix) + 2 * QR_QUIET)] * QR_QUIET
    rows = edges + [side + line + side for line in matrix] + edges
    try:
        QR_HALF_BLOCKS.encode(encoding)
    except UnicodeEncodeError:
        return '\n'.join(''.join('  ' if cell else '##' for cell in row) for row in rows)
    pairs = zip(rows[::2], rows[1::2] + edges[:1])
    return '\n'.join(''.join(QR_HALF_BLOCKS[2 * above + below] for above, below in zip(*pair)) for pair in pairs)


# -- addresses

def shown_hosts(app):
    """The hosts of the addresses that people can type, the machine's own last."""
    names = [app.mdns.host] if app.mdns.host else []
    if app.settings.host != '*':
        return ['[%s]' % app.settings.host if ':' in app.settings.host else app.settings.host] + names
    addresses = [one for one in own_addresses() if not one.is_loopback and not one.is_link_local]
    return ['[%s]' % one if one.version == 6 else str(one) for one in addresses] + names + ['localhost']


def joining_address(request):
    """The address by which others on the network reach this server: the one asked for, unless it is for this machine alone."""
    host = HOST.fullmatch(request.headers['host']).group(1).lower()
    port = request.headers['host'][len(host):]
    reachable = [one for one in [host] + shown_hosts(request.app) if not leads_home(one)]
    if not reachable:
        raise Refusal(404, 'not_found', 'This server is for this machine alone.')
    return '%s://%s%s' % ('https' if request.is_secure else 'http', reachable[0], port)


@route('GET', '/joining', public=True, limit='read')
def get_joining(request):
    """What a page says to those who want to come in: the address for others, if there is one, and whose certificate vouches for it."""
    try:
        address = joining_address(request)
    except Refusal:
        address = None
    return Reply(200, {'address': address, 'certificate': certificate_kind(request)})


def leads_home(host):
    return host == 'localhost' or is_loopback(host.strip('[]'))


@route('GET', '/qr.svg', public=True, limit='qr')
def get_joining_code(request, code: Line(0, 64) = ''):
    """The address of this server as a QR code, with an invitation's code in it if one is given."""
    address = joining_address(request) + ('/#/join/' + urllib.parse.quote(code) if code else '')
    return qr_reply(address)


@route('POST', '/qr', limit='qr')
def make_qr_code(request, text: Line(1, 200)):
    """A text as a QR code."""
    return qr_reply(text)


def qr_reply(text):
    try:
        return Reply(200, content=qr_svg(text.encode('utf-8')), content_type='image/svg+xml')
    except ValueError:
        raise Refusal(400, 'too_long', 'This is too long for a QR code.', 'text')


# -- the chat as an app

ICON_SIZE = 192                              # pixels: what Android and iOS want
ICON_GROUND = (0x0f, 0x3a, 0x40)
ICON_SHAPES = (                              # of the mark in favicon.svg: colour, left, top, right, bottom, radius of the corners
    ((0xf0, 0xb4, 0x3a), 4.5, 17, 16.5, 30, 1.5),
    ((0x5a, 0x3b, 0x00), 7.2, 25, 9.6, 27.4, 0), ((0x5a, 0x3b, 0x00), 11.4, 25, 13.8, 27.4, 0),
    ((0xf6, 0xf1, 0xe6), 2, 2, 30, 22.5, 7), ((0xf6, 0xf1, 0xe6), 2, 12, 12, 22.5, 1.5),
    (ICON_GROUND, 7.5, 8.3, 24.5, 10.9, 1.3), (ICON_GROUND, 7.5, 13.7, 18.5, 16.3, 1.3))
ICON_PLACE, ICON_SCALE, ICON_UNITS = 5, 0.69, 32


def png_file(width, rows):
    """A PNG file (RFC 2083) of rows of bytes, three for a pixel."""
    head = struct.pack('>IIBBBBB', width, len(rows), 8, 2, 0, 0, 0)
    pixels = zlib.compress(b''.join(b'\0' + bytes(row) for row in rows), 6)
    chunks = ((b'IHDR', head), (b'IDAT', pixels), (b'IEND', b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data) & 0xffffffff)
        for name, data in chunks)


@functools.lru_cache(None)
def icon_png():
    """The mark on its ground, to the edges: systems round the corners as they like."""
    rows = [bytearray(bytes(ICON_GROUND) * ICON_SIZE) for _ in range(ICON_SIZE)]
    unit = ICON_SIZE / ICON_UNITS
    for color, *edges, radius in ICON_SHAPES:
        paint_box(rows, color, [(ICON_PLACE + ICON_SCALE * edge) * unit for edge in edges], radius * ICON_SCALE * unit)
    return png_file(ICON_SIZE, rows)


def paint_box(rows, color, edges, radius):
    """Paint a box with round corners; pixels on its edge are mixed by how much of them it covers."""
    left, top, right, bottom = edges
    for row, column in itertools.product(range(int(top), int(bottom) + 1), range(int(left), int(right) + 1)):
        x = max(left + radius - column - .5, column + .5 - right + radius)       # beyond the middles of the corners
        y = max(top + radius - row - .5, row + .5 - bottom + radius)
        distance = math.hypot(max(x, 0), max(y, 0)) + min(max(x, y), 0) - radius
        share = min(max(.5 - distance, 0), 1)
        place = slice(3 * column, 3 * column + 3)
        rows[row][place] = bytes(round(old + (new - old) * share) for old, new in zip(rows[row][place], color))


@route('GET', '/icon.png', public=True)
def get_app_icon(request):
    """The icon for systems that take no SVG."""
    return Reply(200, content=icon_png(), content_type=TYPES['.png'], headers=[('Cache-Control', 'max-age=86400')])


@route('GET', '/manifest.webmanifest', public=True)
def get_manifest(request):
    """What makes the page an app on a device (W3C, Web Application Manifest)."""
    name, colour = request.app.settings.name, '#%02x%02x%02x' % ICON_GROUND
    manifest = {
        'id': '/', 'name': name, 'short_name': name, 'description': 'The chat of ' + name, 'start_url': '/', 'scope': '/',
        'display': 'standalone', 'background_color': colour, 'theme_color': colour,
        'icons': [{'src': '/static/favicon.svg', 'sizes': 'any', 'type': TYPES['.svg']},
                  {'src': '/icon.png', 'sizes': '%dx%d' % (ICON_SIZE, ICON_SIZE), 'type': TYPES['.png'], 'purpose': 'any maskable'}]}
    return Reply(200, content=encode(manifest), content_type=TYPES['.webmanifest'], headers=[('Cache-Control', 'no-cache')])


# ---- 23. BACKUP ------------------------------------------------------
#
# A backup is one zip: the databases, each as of one moment, the files and pictures they name, the keys, and a manifest
# with the SHA-256 sum of each. The chat's database is copied before the accounts', for the start makes good an account
# without a profile. It is read by other connections, so nobody who writes waits for it.

MANIFEST = 'manifest.json'
BACKUP_FORMAT = 1
BACKED_UP_DATABASES = [file for schema, file, synchronous in reversed(DATABASES) if synchronous == 'FULL']
BACKED_UP_FILES = ('secret.key', 'ca.pem', 'ca-key.pem', 'cert.pem', 'key.pem', 'settings.last.json', 'audit.log')
BACKED_UP = re.compile('|'.join(map(re.escape, BACKED_UP_DATABASES + list(BACKED_UP_FILES)))
                       + r'|(?:uploads|avatars)/[A-Za-z0-9_-]+')
BACKUP_NAME = re.compile(r'minimost-(\d{6})-\d{4}-\d\d-\d\d\.zip')
BACKUP_REMAINS = re.compile(r'backup-[a-z0-9_]{8}|' + BACKUP_NAME.pattern + r'\.part')      # the scratch folder, and the part
KEPT_BACKUPS = 7


def require_chat(folder):
    """Where there is none, SQLite would leave an empty database, which looks like a lost one."""
    if not os.path.exists(os.path.join(folder, DATABASES[0][1])):
        raise Trouble('There is no chat in %s; --data names its folder.' % folder)


def write_backup(folder, target, now):
    """Write a backup of a data folder, in use or not, to a file that appears only when it is whole.

    `now` is in milliseconds since the epoch. Raises: Trouble, when there is no such folder or no room.
    """
    require_chat(folder)
    place, part = os.path.dirname(os.path.abspath(target)), target + '.part'
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part)
    try:
        with open_private(part) as file, tempfile.TemporaryDirectory(prefix='backup-', dir=place) as scratch:
            with zipfile.ZipFile(file, 'w', allowZip64=True) as archive:
                sums = {name: pack(archive, name, path) for name, path in parts_to_back_up(folder, scratch)}
                manifest = {'format': BACKUP_FORMAT, 'version': VERSION, 'created_at': now, 'files': sums}
                archive.writestr(MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
            sync_file(file)
        replace(part, target)
    except OSError as error:
        raise Trouble('The backup %s cannot be written (%s).' % (target, error.strerror))
    finally:
        unlink(part)
    sync_folder(place)


def parts_to_back_up(folder, scratch):
    """Pairs (name in the backup, path); the databases are copied to the scratch folder."""
    for file in BACKED_UP_DATABASES:
        copy = os.path.join(scratch, os.path.basename(file))
        copy_database(os.path.join(folder, file), copy)
        yield file, copy
    names = list(BACKED_UP_FILES) + files_named_in(os.path.join(scratch, 'messages.db'))
    for name in names:
        path = os.path.join(folder, *name.split('/'))
        if os.path.exists(path):             # what was deleted since is not missed
            yield name, path


def copy_database(source, target):
    """Copy a database that may be in use, as of one moment."""
    with contextlib.closing(sqlite3.connect(source, timeout=30)) as reading:
        if hasattr(reading, 'backup'):
            with contextlib.closing(sqlite3.connect(target)) as writing:
                reading.backup(writing)
        elif sqlite3.sqlite_version_info >= (3, 27):
            reading.execute('VACUUM INTO ?', (target,))
        else:
            raise Trouble('A backup needs Python 3.7 or SQLite 3.27.')


def files_named_in(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        uploads = ['uploads/' + key for key, in db.execute('SELECT key FROM files ORDER BY id')]
        return uploads + ['avatars/' + key for key, in db.execute('SELECT avatar FROM users WHERE avatar IS NOT NULL')]


def pack(archive, name, path):
    """Add a file to a zip; returns its size and sum as the manifest has them. What is uploaded is mostly packed by itself."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_STORED if '/' in name and name not in BACKED_UP_DATABASES else zipfile.ZIP_DEFLATED
    entry.external_attr, entry.file_size = 0o600 << 16, os.path.getsize(path)
    with open(path, 'rb') as source, archive.open(entry, 'w') as target:
        return copy_and_sum(source, target.write)


def copy_and_sum(source, write):
    size, digest = 0, hashlib.sha256()
    for piece in iter(lambda: source.read(PIECE), b''):
        write(piece)
        digest.update(piece)
        size += len(piece)
    return {'size': size, 'sha256': digest.hexdigest()}


# -- checking and restoring

def unpack_backup(path, folder, only=BACKED_UP):
    """Unpack a backup, or what of it has a name that matches, into an empty folder; check every sum and the databases.

    The databases come last: a folder without them is not taken for a chat. Raises: Trouble.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sums = read_manifest(archive)
            for name in sorted(sums, key=lambda name: (name in BACKED_UP_DATABASES, name)):
                target = os.path.join(folder, *name.split('/')) if only.fullmatch(name) else None
                unpack(archive, name, sums[name], target)
    except (OSError, zipfile.BadZipFile, zlib.error, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Trouble('%s is not a whole backup (%s).' % (path, error))
    for file in BACKED_UP_DATABASES:
        check_database(os.path.join(folder, file))


def read_manifest(archive):
    manifest = json.loads(archive.read(MANIFEST).decode('utf-8'))
    if manifest['format'] != BACKUP_FORMAT:
        raise ValueError('it is of a newer kind')
    wrong = [name for name in manifest['files'] if not BACKED_UP.fullmatch(name)]
    missing = [name for name in BACKED_UP_DATABASES if name not in manifest['files']]
    if wrong or missing:
        raise ValueError('%s does not belong in it' % wrong[0] if wrong else '%s is missing' % missing[0])
    return manifest['files']


def unpack(archive, name, expected, path):
    """Check a file of a backup, and write it to a path unless that is None."""
    with archive.open(name) as source:
        found = save_and_sum(source, path) if path else copy_and_sum(source, lambda piece: None)
    if found != expected:
        raise ValueError('%s has changed' % name)


def save_and_sum(source, path):
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open_private(path) as target:
        found = copy_and_sum(source, target.write)
        sync_file(target)
    return found


def check_database(path):
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            found = db.execute('PRAGMA integrity_check').fetchone()[0]
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != 'ok':
        raise Trouble('The backup holds a damaged %s (%s).' % (os.path.basename(path), found))


def verify_backup(path):
    """Read a whole backup and check it. Raises: Trouble."""
    with tempfile.TemporaryDirectory(prefix='backup-') as folder:
        unpack_backup(path, folder, re.compile('|'.join(map(re.escape, BACKED_UP_DATABASES))))


def restore_backup(path, folder):
    """Make an empty data folder of a backup; cursors from before its time mean nothing any more. Raises: Trouble."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if os.listdir(folder):
        raise Trouble('%s is not empty. Restore into an empty folder.' % folder)
    try:
        unpack_backup(path, folder)
    except BaseException:
        shutil.rmtree(folder)
        raise
    with contextlib.closing(sqlite3.connect(os.path.join(folder, *BACKED_UP_DATABASES[0].split('/')))) as db, db:
        db.execute("DELETE FROM meta WHERE name = 'epoch'")


# -- those that the server makes

def backup_names(folder):
    """The names of the backups in a folder, which need not exist."""
    return [name for name in os.listdir(folder) if BACKUP_NAME.fullmatch(name)] if os.path.isdir(folder) else []


class Backups:
    """The backups that the server makes by itself or at a button, one at a time; the latest few are kept."""

    def __init__(self, app):
        self.app, self.problem = app, ''
        self._running = threading.Lock()

    @property
    def folder(self):
        return self.app.settings.backup_dir or self.app.path('backups')

    def listed(self):
        """What there is, newest first: [{name, size, created_at}]."""
        found = [(name, os.stat(os.path.join(self.folder, name))) for name in backup_names(self.folder)]
        return [{'name': name, 'size': about.st_size, 'created_at': int(about.st_mtime * 1000)}
                for name, about in sorted(found, reverse=True)]

    def newest(self):
        """The path of the newest there is, or ''; also where the setting cannot be read and so names another folder."""
        folders = {self.folder, self.app.path('backups')}
        paths = [os.path.join(folder, name) for folder in folders for name in backup_names(folder)]
        return max(paths, key=os.path.getmtime, default='')

    def advice(self):
        """What to do when a database is lost."""
        return 'Restore a backup into an empty folder: python3 minimost.py restore %s --data FOLDER' % (
            self.newest() or 'BACKUP.zip')

    def state(self):
        return {'folder': os.path.abspath(self.folder), 'running': self._running.locked(), 'problem': self.problem,
                'hours': self.app.settings.backup_hours if self.app.settings.backup_dir else None,
                'backups': self.listed()}

    def start(self):
        """Begin a backup on a thread of its own, unless one is being made.

        Raises: Refusal 503 when the system has no more threads.
        """
        if not self._running.acquire(False):
            return
        try:
            threading.Thread(target=self._run, name='backup', daemon=True).start()
        except RuntimeError:
            self._running.release()
            raise try_later(503, 'busy', 'The system has no thread left for a backup. Try again in a minute.', 60)

    def start_when_due(self):
        """Copies to a second place are made by the time of service, whatever the clock says."""
        last = int(get_meta(self.app.store.reader(), 'backup_second') or 0)
        due = last + self.app.settings.backup_hours * 3600
        if self.app.settings.backup_dir and (not last or self.app.service.seconds() >= due):
            self.start()

    def _run(self):
        try:
            self._make()
        except (Trouble, OSError, sqlite3.Error, Refusal) as error:
            self.problem = getattr(error, 'words', str(error))
            say('No backup could be made: ' + self.problem)
        finally:
            self._running.release()

    def _sweep(self):
        """Remove what an interrupted backup left behind; younger ones may be a command's that is at work."""
        for name in os.listdir(self.folder):
            path = os.path.join(self.folder, name)
            if BACKUP_REMAINS.fullmatch(name) and time.time() - os.path.getmtime(path) > DAY:
                shutil.rmtree(path, ignore_errors=True)
                unlink(path)

    def _make(self):
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        self._sweep()
        there, now = self.listed(), self.app.clock.now()
        number = int(BACKUP_NAME.fullmatch(there[0]['name']).group(1)) + 1 if there else 1
        day = time.strftime('%Y-%m-%d', time.localtime(now / 1000))
        write_backup(self.app.folder, os.path.join(self.folder, 'minimost-%06d-%s.zip' % (number, day)), now)
        self.problem = ''
        self.app.store.write(lambda change: set_meta(change, 'backup_second', str(max(1, self.app.service.seconds()))))
        for old in self.listed()[KEPT_BACKUPS:]:
            unlink(os.path.join(self.folder, old['name']))


@route('GET', '/admin/backups', role='admin', limit='read')
def get_backups(request):
    """The backups that are kept, where they are, and whether one is being made."""
    return Reply(200, request.app.backups.state())


@route('POST', '/admin/backup', role='admin', limit='change', audit='backup')
def start_backup(request):
    """Begin a backup while people write, unless one is being made."""
    request.app.backups.start()
    return Reply(202, request.app.backups.state())


# ---- 24. STUN --------------------------------------------------------
#
# A Binding server over UDP (RFC 8489, without authentication; RFC 5389 and RFC 3489 clients included): it tells
# browsers the address that they are seen from, without which they offer none on a network without a default route.
# An answer is hardly longer than its request, and what is no good request gets none, so it helps no attacker.

STUN_COOKIE = 0x2112A442                                 # RFC 8489 section 5
BINDING_REQUEST, BINDING_SUCCESS, BINDING_ERROR = 0x0001, 0x0101, 0x0111
PLAIN_REQUEST = struct.pack('>HHI', BINDING_REQUEST, 0, STUN_COOKIE)     # of most requests all but the transaction id
MAPPED_ADDRESS, ERROR_CODE, UNKNOWN_ATTRIBUTES, XOR_MAPPED_ADDRESS = 0x0001, 0x0009, 0x000A, 0x0020
MESSAGE_INTEGRITY, STUN_FINGERPRINT = 0x0008, 0x8028
IGNORED_ATTRIBUTES = frozenset((                         # understood, and of no use to a server without authentication
    0x0006, 0x0014, 0x0015, 0x001C, 0x001D, 0x001E,      # USERNAME REALM NONCE, MESSAGE-INTEGRITY-SHA256 PASSWORD-ALGORITHM USERHASH
    0x0024, 0x0025))                                     # PRIORITY USE-CANDIDATE (RFC 8445 section 16.1)
COMPREHENSION_OPTIONAL = 0x8000                          # attributes from here on may be skipped (RFC 8489 section 14)
MOST_UNKNOWN = 16                                        # attributes named in an answer
FINGERPRINT_MASK = 0x5354554E                            # RFC 8489 section 14.7

STUN_HEADER, STUN_ATTRIBUTE = struct.Struct('>HH16s'), struct.Struct('>HH')
STUN_ADDRESS = {4: struct.Struct('>HH16sHHxBH4s'), 16: struct.Struct('>HH16sHHxBH16s')}     # a whole answer
STUN_ADDRESS_TYPE = {4: 1, 16: 2}
V4_MAPPED, LOOPBACK_OCTETS = bytes(10) + b'\xff\xff', bytes(15) + b'\1'
CAN_NAME_ITS_ADDRESS = sys.platform == 'linux' and hasattr(socket, 'IPV6_RECVPKTINFO')
PACKET_INFO_SPACE = socket.CMSG_SPACE(20) if CAN_NAME_ITS_ADDRESS else 0     # struct in6_pktinfo (RFC 3542 section 6.1):
OWN_OCTETS, ANY_INTERFACE = slice(0, 16), bytes(4)                           # an address, and the number of an interface

MOST_PACKET = 2048
PACKETS_AT_ONCE = 256                                    # from one socket before the others have their turn
STUN_RECEIVE_BUFFER = 2 ** 20
STUN_PER_NETWORK, STUN_IN_ALL = 1000, 10000              # answers per second; twice as many at once
STUN_NETWORKS_KEPT = 4096
FOLLOW_SECONDS = 30


@functools.lru_cache(maxsize=4096)
def peer_octets(host):
    """The 4 or 16 octets of an address; those of IPv4 also where it was mapped into IPv6."""
    octets = socket.inet_pton(socket.AF_INET6 if ':' in host else socket.AF_INET, host.partition('%')[0])
    return octets[12:] if octets.startswith(V4_MAPPED) else octets


def mask_address(octets, port, mask):
    """An address and a port under the 16 octets of a mask (RFC 8489 section 14.2)."""
    size = len(octets)
    masked = int.from_bytes(octets, 'big') ^ int.from_bytes(mask[:size], 'big')
    return masked.to_bytes(size, 'big'), port ^ int.from_bytes(mask[:2], 'big')


def binding_success(octets, port, mask):
    """The answer that tells an address; the mask is the cookie and the transaction id.

    One who sent no cookie gets the address as it is, in 16 octets of id all its own (RFC 3489 section 11.2.1).
    """
    size, kind = len(octets), MAPPED_ADDRESS
    if mask.startswith(PLAIN_REQUEST[4:]):
        kind, (octets, port) = XOR_MAPPED_ADDRESS, mask_address(octets, port, mask)
    return STUN_ADDRESS[size].pack(BINDING_SUCCESS, size + 8, mask, kind, size + 4, STUN_ADDRESS_TYPE[size], port, octets)


def binding_error(mask, unknown):
    """The answer that names the attributes which were not understood (RFC 8489 sections 14.8 and 14.13)."""
    unknown = unknown[:MOST_UNKNOWN]
    names = struct.pack('>%dH' % len(unknown), *unknown)
    body = STUN_ATTRIBUTE.pack(ERROR_CODE, 11) + b'\0\0\x04\x14Unknown\0'
    body += STUN_ATTRIBUTE.pack(UNKNOWN_ATTRIBUTES, len(names)) + names + bytes(-len(names) % 4)
    return STUN_HEADER.pack(BINDING_ERROR, len(body), mask) + body


def fingerprint_of_packet(packet):
    return zlib.crc32(packet) ^ FINGERPRINT_MASK


def with_fingerprint(packet):
    """The packet with a FINGERPRINT at its end, which its length and its checksum already count."""
    packet = packet[:2] + struct.pack('>H', len(packet) - 12) + packet[4:]
    return packet + struct.pack('>HHI', STUN_FINGERPRINT, 4, fingerprint_of_packet(packet))


def read_attributes(packet):
    """Returns: [(type, where it begins, length)] of a packet's attributes, or None when one overruns the end."""
    attributes, at = [], 20
    while at < len(packet):
        kind, length = STUN_ATTRIBUTE.unpack_from(packet, at)
        attributes.append((kind, at, length))
        at += 4 + length + -length % 4
    return attributes if at == len(packet) else None


def read_request(packet):
    """What stands in a Binding request: (ids of what is not understood, whether it ends with a FINGERPRINT).

    Returns: None for all else, such as other messages, lengths that lie, a wrong or misplaced FINGERPRINT, RTP, DTLS.
    """
    if len(packet) < 20 or len(packet) % 4:
        return None
    kind, length, _ = STUN_HEADER.unpack_from(packet)
    attributes = read_attributes(packet) if kind == BINDING_REQUEST and length == len(packet) - 20 else None
    if attributes is None:
        return None
    kinds = [kind for kind, _, _ in attributes]
    if STUN_FINGERPRINT in kinds and not ends_with_fingerprint(packet, attributes):
        return None
    counted = kinds[:kinds.index(MESSAGE_INTEGRITY)] if MESSAGE_INTEGRITY in kinds else kinds    # section 14.5: what follows is ignored
    unknown = [kind for kind in counted if kind < COMPREHENSION_OPTIONAL and kind not in IGNORED_ATTRIBUTES]
    return list(collections.OrderedDict.fromkeys(unknown)), STUN_FINGERPRINT in kinds


def ends_with_fingerprint(packet, attributes):
    """Whether the first FINGERPRINT is the last attribute, and right."""
    kind, at, length = next(one for one in attributes if one[0] == STUN_FINGERPRINT)
    return length == 4 and at + 8 == len(packet) and packet[at + 4:] == struct.pack('>I', fingerprint_of_packet(packet[:at]))


def stun_answer(packet, octets, port):
    """The answer to a packet from an address, or None, which is what all gets that is not a Binding request."""
    if len(packet) == 20 and packet.startswith(PLAIN_REQUEST):
        return binding_success(octets, port, packet[4:])
    request = read_request(packet)
    if request is None:
        return None
    unknown, has_fingerprint = request
    answer = binding_error(packet[4:20], unknown) if unknown else binding_success(octets, port, packet[4:20])
    return with_fingerprint(answer) if has_fingerprint else answer


class StunLimits:
    """Token buckets: one for all, and one for each /24 or /64. This machine itself is not limited."""

    def __init__(self, settings, clock):
        self.settings, self.clock = settings, clock
        self._networks = collections.OrderedDict()           # network: [tokens, when]
        self._all = [2 * STUN_IN_ALL, clock.steady()]

    def allow(self, octets):
        """Whether an address may have an answer; takes its token."""
        if not self.settings.rate_limit_enabled or octets == LOOPBACK_OCTETS or octets[0] == 127 and len(octets) == 4:
            return True
        now = self.clock.steady()
        network = octets[:3] if len(octets) == 4 else octets[:8]
        bucket = self._networks.get(network)
        if bucket is None:
            bucket = self._networks[network] = [2 * STUN_PER_NETWORK, now]
            if len(self._networks) > STUN_NETWORKS_KEPT:
                self._networks.popitem(last=False)
        return self._take(bucket, STUN_PER_NETWORK, now) and self._take(self._all, STUN_IN_ALL, now)

    @staticmethod
    def _take(bucket, rate, now):
        tokens = min(2 * rate, bucket[0] + (now - bucket[1]) * rate)
        bucket[:] = tokens - (tokens >= 1), now
        return tokens >= 1


class StunServer(socketserver.UDPServer):
    """One socket, and the answers on it. Bound to every address it answers from the one that was asked."""

    allow_reuse_address = False

    def __init__(self, host, port, allow):
        self.allow, self.names_its_address = allow, host == '::'
        self.address_family = socket.AF_INET6 if ':' in host else socket.AF_INET
        socketserver.UDPServer.__init__(self, (host, port), None)
        self.socket.setblocking(False)

    def server_bind(self):
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not self.names_its_address)
        if self.names_its_address:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STUN_RECEIVE_BUFFER)
        socketserver.UDPServer.server_bind(self)

    def answer_some(self):
        """Answer what has come; what cannot be answered is left."""
        exchange = self._exchange_naming if self.names_its_address else self._exchange
        with contextlib.suppress(BlockingIOError):
            for _ in range(PACKETS_AT_ONCE):
                try:
                    exchange()
                except BlockingIOError:
                    raise
                except OSError:                  # the peer is out of reach; Windows tells of it at the next receive
                    continue

    def _exchange(self):
        packet, address = self.socket.recvfrom(MOST_PACKET)
        answer = self._answer(packet, address)
        if answer is not None:
            self.socket.sendto(answer, address)

    def _exchange_naming(self):
        """The same with the address that was asked: the kernel would choose another one to answer from."""
        packet, notes, _, address = self.socket.recvmsg(MOST_PACKET, PACKET_INFO_SPACE)
        answer = self._answer(packet, address)
        if answer is not None:
            own = [(level, kind, data[OWN_OCTETS] + ANY_INTERFACE) for level, kind, data in notes]
            self.socket.sendmsg((answer,), own, 0, address)

    def _answer(self, packet, address):
        octets = peer_octets(address[0])
        answer = stun_answer(packet, octets, address[1])
        return answer if answer is not None and self.allow(octets) else None


class Stun:
    """The STUN server of one chat: one thread for all its sockets. `port` is where it answers, or None."""

    def __init__(self, settings, clock, core):
        self.clock, self.core, self.port = clock, core, None
        self._allow = StunLimits(settings, clock).allow
        self._servers, self._versions = {}, ()           # by host; whose addresses are followed
        self._thread = None

    def start(self, host, port):
        """Listen where the chat does, on a port or, for 0, on any that is free; raises OSError when it is taken."""
        if host in ('*', '::', '0.0.0.0'):
            host = self._host_for_all(host)
        first = StunServer(host, port, self._allow)
        self.port = first.server_address[1]
        self._selector = selectors.DefaultSelector()
        self._bell, self._ear = socket.socketpair()
        self._selector.register(self._ear, selectors.EVENT_READ, None)
        self._add(host, first)
        self._thread = threading.Thread(target=self._run, name='stun', daemon=True)
        self._thread.start()

    def hosts(self):
        """The addresses at which it answers."""
        hosts = list(self._servers)
        return [str(one) for one in own_addresses() if not one.is_link_local] if hosts == ['::'] else hosts

    def _host_for_all(self, host):
        """The socket to begin with where all addresses are served: for all, or the first of one for each."""
        if host != '0.0.0.0' and listening_family('*')[1] == '::' and CAN_NAME_ITS_ADDRESS:
            return '::'
        self._versions = (4,) if host == '0.0.0.0' else (4, 6)
        return '127.0.0.1'

    def stop(self):
        if self._thread is None:
            return
        self._bell.close()
        self._thread.join(5)
        for server in self._servers.values():
            server.server_close()
        self._selector.close()
        self._ear.close()

    def _run(self):
        self.core.stay()
        followed = -FOLLOW_SECONDS
        while True:
            if self._versions and self.clock.steady() - followed >= FOLLOW_SECONDS:
                followed = self.clock.steady()
                self._follow_addresses()
            for key, _ in self._selector.select(FOLLOW_SECONDS if self._versions else None):
                if key.data is None:                     # the bell was closed
                    return
                self._answer(key.data)

    @staticmethod
    def _answer(server):
        try:
            server.answer_some()
        except Exception:                                # the edge of this thread: the next packet is answered
            report()

    def _follow_addresses(self):
        """Have one socket for each address of this machine, as they come and go."""
        hosts = {str(one) for one in own_addresses() if one.version in self._versions and not one.is_link_local}
        for host in set(self._servers) - hosts:
            self._drop(host)
        for host in hosts - set(self._servers):
            with contextlib.suppress(OSError):           # not ready yet, or taken there
                self._add(host, StunServer(host, self.port, self._allow))

    def _add(self, host, server):
        self._servers[host] = server
        self._selector.register(server.socket, selectors.EVENT_READ, server)

    def _drop(self, host):
        server = self._servers.pop(host)
        self._selector.unregister(server.socket)
        server.server_close()


# ---- 25. MDNS --------------------------------------------------------
#
# Multicast DNS (RFC 6762) for one name of the chat's own; the machine's name is left to the responder that may run for it.

MDNS_PORT = 5353
MDNS_GROUPS = {4: '224.0.0.251', 6: 'ff02::fb'}
MDNS_TTL, LEGACY_TTL = 120, 10               # seconds; the latter for resolvers that know nothing of multicast (section 6.7)
PROBES, PROBE_PAUSE = 3, 0.25                # section 8.1
ANNOUNCEMENTS, ANNOUNCEMENT_PAUSE = 2, 1     # section 8.3
LOST_PROBE_PAUSE = 1                         # section 8.2
MANY_CONFLICTS, CONFLICT_PAUSE = 15, 5       # section 8.1
REPEAT_PAUSE = 1                             # section 6: no record is multicast twice within a second
LOOK_AGAIN = 10                              # seconds between looks at the interfaces
TYPE_A, TYPE_AAAA, TYPE_NSEC, TYPE_ANY = 1, 28, 47, 255
CLASS_IN, TOP_BIT = 1, 0x8000                # the highest bit of a class says "alone" of a record and "by unicast" of a question
RESPONSE = 0x8400                            # flags: a response, authoritative
MOST_MDNS, MOST_LABELS = 9000, 128
IP_MULTICAST_ALL, IPV6_MULTICAST_ALL = 49, 29   # linux/in.h, linux/in6.h: not in the module socket

Interface = collections.namedtuple('Interface', 'index addresses')
DnsQuestion = collections.namedtuple('DnsQuestion', 'name kind by_unicast')
DnsRecord = collections.namedtuple('DnsRecord', 'name kind ttl data')
DnsMessage = collections.namedtuple('DnsMessage', 'number is_response questions answers authorities additionals')


# -- packets (RFC 1035 section 4.1)

def write_dns_name(name):
    return b''.join(bytes((len(label),)) + label for label in name.encode('ascii').split(b'.')) + b'\0'


def write_dns_question(name, kind, by_unicast=False):
    return write_dns_name(name) + struct.pack('>HH', kind, CLASS_IN | (TOP_BIT if by_unicast else 0))


def write_dns_record(name, kind, data, ttl=MDNS_TTL, alone=True):
    fields = struct.pack('>HHIH', kind, CLASS_IN | (TOP_BIT if alone else 0), ttl, len(data))
    return write_dns_name(name) + fields + data


def write_dns(flags, questions=(), answers=(), authorities=(), additionals=(), number=0):
    parts = (questions, answers, authorities, additionals)
    return struct.pack('>6H', number, flags, *map(len, parts)) + b''.join(itertools.chain(*parts))


def read_dns(packet):
    """The message in a packet; ValueError when it is broken or of another kind than query and response."""
    try:
        number, flags, questions, *counts = struct.unpack_from('>6H', packet)
        if flags & 0x780f:
            raise ValueError('neither a query nor a response that went well')
        asked, place = read_dns_questions(packet, 12, questions)
        sections = []
        for count in counts:
            records, place = read_dns_records(packet, place, count)
            sections.append(records)
    except (struct.error, IndexError):
        raise ValueError('a packet cut short')
    return DnsMessage(number, bool(flags & 0x8000), asked, *sections)


def read_dns_questions(packet, place, count):
    questions = []
    for _ in range(count):
        name, place = read_dns_name(packet, place)
        kind, asked_class = struct.unpack_from('>HH', packet, place)
        place += 4
        if asked_class & ~TOP_BIT in (CLASS_IN, TYPE_ANY):
            questions.append(DnsQuestion(name, kind, bool(asked_class & TOP_BIT)))
    return questions, place


def read_dns_records(packet, place, count):
    records = []
    for _ in range(count):
        name, place = read_dns_name(packet, place)
        kind, record_class, ttl, length = struct.unpack_from('>HHIH', packet, place)
        data, place = packet[place + 10:place + 10 + length], place + 10 + length
        if place > len(packet):
            raise ValueError('a record cut short')
        if record_class & ~TOP_BIT == CLASS_IN:
            records.append(DnsRecord(name, kind, ttl, data))
    return records, place


def read_dns_name(packet, place):
    """A name in small letters, followed through pointers (section 4.1.4), and the place behind it."""
    labels, end = [], None
    for _ in range(MOST_LABELS):
        length = packet[place]
        if length >= 0xc0:
            end = end or place + 2
            place = int.from_bytes(packet[place:place + 2], 'big') & 0x3fff
        elif length:
            labels.append(packet[place + 1:place + 1 + length])
            place += 1 + length
        else:
            return b'.'.join(labels).decode('latin-1').lower(), end or place + 1
    raise ValueError('a name without an end')


def address_records(interface):
    """The (type, data) of an interface's addresses."""
    return sorted((TYPE_A if one.version == 4 else TYPE_AAAA, one.packed) for one in interface.addresses)


def nsec_data(name, kinds):
    """That a name has records of these types below 32 and no others (section 6.1)."""
    bits = bytearray(4)
    for kind in kinds:
        bits[kind // 8] |= 0x80 >> kind % 8
    bits = bytes(bits).rstrip(b'\0')
    return write_dns_name(name) + bytes((0, len(bits))) + bits


# -- interfaces and sockets

def lan_interfaces(host):
    """The interfaces with addresses that others reach; `host` is what a server is bound to: one address, or all of a version."""
    found = collections.OrderedDict()
    for name, address in named_addresses():
        if not address.is_loopback and host in ('::', '0.0.0.0' if address.version == 4 else '::', str(address)):
            found.setdefault(name, []).append(address)
    return [Interface(interface_index(name), tuple(sorted(addresses, key=lambda one: (one.version, one))))
            for name, addresses in found.items()]


def named_addresses():
    """(interface, address) where the system tells, which is Linux; elsewhere every IPv4 address is an interface by itself."""
    if sys.platform != 'linux':
        return [(str(one), one) for one in own_addresses() if one.version == 4]
    found = []
    for source in (named_ipv4_addresses, named_ipv6_addresses):
        with contextlib.suppress(OSError):           # a version of IP that is turned off
            found += source()
    return found


def interface_index(name):
    try:
        return socket.if_nametoindex(name)
    except (OSError, AttributeError):
        return 0


class Link:
    """One interface and one version of IP: the socket in the group there, and the addresses to tell."""

    def __init__(self, interface, version, port):
        self.records, self.quiet_until = address_records(interface), 0
        self.family = socket.AF_INET if version == 4 else socket.AF_INET6
        self.group = (MDNS_GROUPS[version], port) if version == 4 else (MDNS_GROUPS[version], port, 0, interface.index)
        self.socket = socket.socket(self.family, socket.SOCK_DGRAM)
        try:
            self._share()
            (self._join_ipv4 if version == 4 else self._join_ipv6)(interface)
            self.socket.setblocking(False)
        except BaseException:
            self.socket.close()
            raise

    def _share(self):
        """Let the machine's own responder have the port as well."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform != 'linux' and hasattr(socket, 'SO_REUSEPORT'):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with contextlib.suppress(OSError):           # only what comes in by this interface
            if sys.platform == 'linux' and self.family == socket.AF_INET:
                self.socket.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
            elif sys.platform == 'linux':
                self.socket.setsockopt(socket.IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)

    def _join_ipv4(self, interface):
        local = next(one.packed for one in interface.addresses if one.version == 4)
        self.socket.bind(('' if os.name == 'nt' else self.group[0], self.group[1]))
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(self.group[0]) + local)
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, local)
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)

    def _join_ipv6(self, interface):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.bind(self.group)
        group = ipaddress.IPv6Address(self.group[0]).packed + struct.pack('@I', interface.index)
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface.index)
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)

    def send(self, packet, target=None):
        with contextlib.suppress(OSError):           # an interface that went down is noticed at the next look
            self.socket.sendto(packet, target or self.group)


def open_links(interfaces, port):
    """A link for every interface and version of IP there; OSError where they are refused, not where there is no network yet."""
    links, trouble = [], None
    for interface in interfaces:
        for version in sorted({one.version for one in interface.addresses}):
            try:
                links.append(Link(interface, version, port))
            except OSError as error:
                trouble = error
    if trouble and not links:
        raise trouble
    return links


# -- the responder

class Mdns:
    """Probes for a name, announces it, defends it and answers for it, on one thread. `host` is the name in use, or None.

    `interfaces()` gives those to be on; `told(host)` is called when another name had to be taken.
    """

    def __init__(self, clock, random_bytes, port=MDNS_PORT):
        self.host, self.port = None, port
        self._clock, self._random_bytes = clock, random_bytes
        self._thread, self._links = None, []

    def start(self, label, interfaces, told):
        """Take the name `label`.local, or one like it; OSError where the port cannot be shared."""
        self._label, self._number, self._conflicts = label, 1, 0
        self._interfaces, self._told = interfaces, told
        self._present = interfaces()
        links = open_links(self._present, self.port)
        self._selector = selectors.DefaultSelector()
        self._bell, self._ear = socket.socketpair()
        self._selector.register(self._ear, selectors.EVENT_READ, None)
        self._use(links)
        self.host = self._name()
        self._begin(self._random_bytes(1)[0] / 255 * PROBE_PAUSE)
        self._thread = threading.Thread(target=self._run, name='mdns', daemon=True)
        self._thread.start()

    def stop(self):
        """Say goodbye (section 10.1) and end."""
        if self._thread is None:
            return
        self._bell.close()
        self._thread.join(5)
        self._use([])
        self._selector.close()
        self._ear.close()

    def _use(self, links):
        """Be in the group by these links, no longer by those before."""
        for link in self._links:
            self._selector.unregister(link.socket)
            link.socket.close()
        for link in links:
            self._selector.register(link.socket, selectors.EVENT_READ, link)
        self._links = links

    def _name(self):
        return self._label + ('-%d' % self._number if self._number > 1 else '') + '.local'

    def _begin(self, pause):
        """Probe from the start after so many seconds."""
        self._sent, self._due = 0, self._clock.steady() + pause

    @property
    def _owns_name(self):
        return self._sent > PROBES

    def _run(self):
        try:
            while self._wait():
                if self._clock.steady() >= self._due:
                    self._step()
            if self._owns_name:
                self._tell_all(0)
        except Exception:                            # the edge of this thread: the chat goes on without its name
            self.host = None
            report()

    def _wait(self):
        """Take what comes until something is due; False when it is time to end."""
        ready = [key.data for key, _ in self._selector.select(max(0, self._due - self._clock.steady()))]
        for link in ready:
            if link is not None:
                self._receive(link)
        return None not in ready

    def _step(self):
        """Send the next probe or announcement; afterwards see whether the interfaces are the same."""
        now = self._clock.steady()
        if self._sent < PROBES:
            self._probe()
            self._due = now + PROBE_PAUSE
        elif self._sent < PROBES + ANNOUNCEMENTS:
            self._tell_all(MDNS_TTL)
            self._due = now + ANNOUNCEMENT_PAUSE
        else:
            self._due = now + LOOK_AGAIN
            return self._follow_interfaces()
        self._sent += 1

    def _follow_interfaces(self):
        present = self._interfaces()
        if present == self._present:
            return
        self._present = None
        self._use([])
        with contextlib.suppress(OSError):           # no network or no descriptor now: at a later look there may be one
            self._use(open_links(present, self.port))
            self._present = present
        self._begin(0)

    def _probe(self):
        for link in self._links:
            proposed = self._written(link.records, alone=False)
            link.send(write_dns(0, [write_dns_question(self.host, TYPE_ANY, True)], authorities=proposed))

    def _tell_all(self, ttl):
        for link in self._links:
            link.send(write_dns(RESPONSE, answers=self._written(link.records, ttl=ttl)))

    # -- what others say

    def _receive(self, link):
        try:
            packet, source = link.socket.recvfrom(MOST_MDNS)
            message = read_dns(packet)
        except (OSError, ValueError):
            return
        if not message.is_response:
            self._hear_query(link, message, source)
        elif source[1] == self.port and self._contradicts(message):
            self._yield_name()

    def _contradicts(self, message):
        """Whether somebody else has addresses for the name (section 9)."""
        own = self._own_records()
        return any(one.name == self.host and one.kind in (TYPE_A, TYPE_AAAA) and one.ttl and (one.kind, one.data) not in own
                   for one in message.answers + message.additionals)

    def _own_records(self):
        """Those of all links: two may lead into one network, and hear each other."""
        return {record for link in self._links for record in link.records}

    def _yield_name(self):
        """Probe again for a name that seemed one's own; take another for one that is taken."""
        self._conflicts += 1
        pause = CONFLICT_PAUSE if self._conflicts >= MANY_CONFLICTS else 0
        if not self._owns_name:
            self._number += 1
            self.host = self._name()
            self._told(self.host)
        self._begin(pause)

    def _hear_query(self, link, message, source):
        asked = [one for one in message.questions if one.name == self.host]
        if not asked:
            return None
        if self._owns_name:
            return self._answer(link, message, asked, source)
        theirs = sorted((one.kind, one.data) for one in message.authorities if one.name == self.host)
        if theirs > link.records and not self._own_records().issuperset(theirs):    # section 8.2: the later in order wins, and the other asks once more
            self._begin(LOST_PROBE_PAUSE)
        return None

    def _answer(self, link, message, asked, source):
        if source[1] != self.port:
            return link.send(self._legacy_answer(link, message, asked), source)
        known = {(one.kind, one.data) for one in message.answers if one.name == self.host and one.ttl >= MDNS_TTL / 2}
        wanted = [record for record in self._matching(link, asked) if record not in known]       # section 7.1
        if not wanted:
            return None
        more = [record for record in link.records if record not in wanted and record not in known]
        packet = write_dns(RESPONSE, answers=self._written(wanted), additionals=self._written(more))
        if all(one.by_unicast for one in asked):
            return link.send(packet, source)
        now = self._clock.steady()
        if now >= link.quiet_until or message.authorities:
            link.quiet_until = now + REPEAT_PAUSE
            link.send(packet)
        return None

    def _written(self, records, **more):
        return [write_dns_record(self.host, *record, **more) for record in records]

    def _matching(self, link, asked):
        """The records of the types asked for; for types that are not there, that they are not (section 6.1)."""
        kinds = {kind for kind, _ in link.records}
        wanted = {one.kind for one in asked}
        records = [record for record in link.records if TYPE_ANY in wanted or record[0] in wanted]
        if wanted - kinds - {TYPE_ANY}:
            records.append((TYPE_NSEC, nsec_data(self.host, kinds)))
        return records

    def _legacy_answer(self, link, message, asked):
        answers = self._written(self._matching(link, asked), ttl=LEGACY_TTL, alone=False)
        questions = [write_dns_question(self.host, one.kind) for one in asked]
        return write_dns(RESPONSE, questions, answers, number=message.number)


# ---- 26. JANITOR -----------------------------------------------------
#
# Nothing is deleted unless the operator sets an age or a size. Then the heaviest user's oldest goes first, what is
# pinned stays, and no pass takes more than a fifth. Ages are told by the clock, so after it jumped a pass waits.

FIRST_CLEANING = 300             # seconds after the start
LARGEST_SHARE = 5                # no pass takes more than one in so many
CLOCK_MAY_DRIFT = 7 * DAY        # seconds; more is a jump
CLEANED_AT_ONCE = 200            # things in one commit
PAGES_AT_ONCE = 500              # freed pages that are given back in one commit
WARN_AT = 0.8                    # of a size that may not be exceeded
PACE_DAYS = 30                   # how far back the pace of growth is measured

Stored = collections.namedtuple('Stored', 'user_id id size')
CleaningPlan = collections.namedtuple('CleaningPlan', 'files messages')

IS_PINNED = ('EXISTS (SELECT 1 FROM attachments JOIN messages ON messages.id = message_id '
             'WHERE file_id = files.id AND pinned_at IS NOT NULL)')
KEPT_FILES = 'FROM files WHERE posted = 1 AND removed_at IS NULL'


def plan_cleaning(app, db):
    """What the settings in force would have deleted now."""
    now, settings = app.clock.now(), app.settings
    files = [row for kind, days in (('LIKE', settings.image_retention_days), ('NOT LIKE', settings.file_retention_days))
             for row in aged_files(db, kind, now, days)]
    messages = aged_messages(db, now, settings.message_retention_days)
    files += excess_files(db, {row.id for row in files}, settings.max_upload_dir_size_mb)
    messages += excess_messages(db, set(messages), settings.max_message_db_size_mb)
    return CleaningPlan(no_more_than_a_share(files, db, 'SELECT count(*) ' + KEPT_FILES),
                        no_more_than_a_share(messages, db, 'SELECT count(*) FROM messages'))


def no_more_than_a_share(things, db, count):
    return things and things[:max(1, db.execute(count).fetchone()[0] // LARGEST_SHARE)]


def aged_files(db, kind, now, days):
    """Images or the other files that are older than so many days; 0 keeps them."""
    if not days:
        return []
    rows = db.execute("SELECT user_id, id, size %s AND type %s 'image/%%' AND created_at < ? AND NOT %s ORDER BY id" % (
        KEPT_FILES, kind, IS_PINNED), (now - days * DAY * 1000,))
    return [Stored(*row) for row in rows]


def aged_messages(db, now, days):
    if not days:
        return []
    rows = db.execute('SELECT id FROM messages WHERE created_at < ? AND pinned_at IS NULL ORDER BY id',
                      (now - days * DAY * 1000,))
    return [row['id'] for row in rows]


def excess_files(db, going, most):
    """The files over the cap of so many MB, once those that go anyway have gone."""
    if not most:
        return []
    rows = [Stored(*row) for row in db.execute('SELECT user_id, id, size %s ORDER BY id' % KEPT_FILES)]
    total = sum(row.size for row in rows if row.id not in going)
    if total <= most * 10 ** 6:
        return []
    pinned = {row['id'] for row in db.execute('SELECT id %s AND %s' % (KEPT_FILES, IS_PINNED))}
    return heaviest_first([row for row in rows if row.id not in going | pinned], total - most * 10 ** 6)


def excess_messages(db, going, most):
    """The messages over the cap of the database, each taken for as large as the mean."""
    if not most:
        return []
    size, count = message_bytes(db), db.execute('SELECT count(*) FROM messages').fetchone()[0]
    if size <= most * 10 ** 6 or not count:
        return []
    mean = size / count
    rows = db.execute('SELECT user_id, id, ? FROM messages WHERE pinned_at IS NULL ORDER BY id', (mean,))
    left = [Stored(*row) for row in rows if row['id'] not in going]
    return [row.id for row in heaviest_first(left, size - most * 10 ** 6 - mean * len(going))]


def heaviest_first(rows, excess):
    """Of rows by age as many as weigh the excess: always the oldest of the user who has most by then."""
    waiting, chosen = collections.defaultdict(collections.deque), []
    for row in rows:
        waiting[row.user_id].append(row)
    weights = [(-sum(row.size for row in own), user_id) for user_id, own in waiting.items()]
    heapq.heapify(weights)
    while excess > 0 and weights:
        weight, user_id = weights[0]
        chosen.append(waiting[user_id].popleft())
        excess -= chosen[-1].size
        if waiting[user_id]:
            heapq.heapreplace(weights, (weight + chosen[-1].size, user_id))
        else:
            heapq.heappop(weights)
    return chosen


def message_bytes(db):
    """What the database of the messages takes, without what is free in it."""
    pages, free, size = (db.execute('PRAGMA chat.' + name).fetchone()[0] for name in ('page_count', 'freelist_count', 'page_size'))
    return (pages - free) * size


# -- a pass

def clean(app, dry_run=False, sure=False):
    """Delete what the settings no longer keep; returns what went, or what would: {files, messages, bytes, waiting}.

    `waiting` says that the clock jumped within the last day of service, so that ages cannot be trusted yet; `sure`
    says that an administrator looked at the clock.
    """
    app.store.write(functools.partial(watch_clock, app, sure))
    plan, waiting = plan_cleaning(app, app.store.reader()), clock_is_doubtful(app)
    if not dry_run and not waiting:
        carry_out_cleaning(app, plan)
    return {'files': len(plan.files), 'messages': len(plan.messages), 'bytes': sum(row.size for row in plan.files),
            'waiting': waiting, 'dry_run': dry_run}


def carry_out_cleaning(app, plan):
    if not plan.files and not plan.messages:
        return

    def take_away(remove, things, change):
        change.afterwards(app.news.forget_told)      # what is rendered there must not outlive it
        return [remove(app, change, thing) for thing in things]
    channels = set()
    for remove, things in ((remove_file, [row.id for row in plan.files]), (forget_message, plan.messages)):
        for place in range(0, len(things), CLEANED_AT_ONCE):
            channels.update(app.store.write(functools.partial(take_away, remove, things[place:place + CLEANED_AT_ONCE])))
    app.store.write(lambda change: [change.tell('channel', channel_id, channel_id) for channel_id in channels - {None}])
    while app.store.reader().execute('PRAGMA chat.freelist_count').fetchone()[0] > PAGES_AT_ONCE and app.store.write(give_back):
        continue


def note_cleaning(app, done):
    """Write down what a pass took away that nobody asked for in the page, where the request leaves a line."""
    if (done['files'] or done['messages']) and not done['waiting'] and not done['dry_run']:
        app.audit.note('clean', src='console', files=done['files'], messages=done['messages'])


def give_back(change):
    """Give pages that nothing needs any more back to the disk; returns whether there was one."""
    before = change.execute('PRAGMA chat.page_count').fetchone()[0]
    change.execute('PRAGMA chat.incremental_vacuum(%d)' % PAGES_AT_ONCE).fetchall()
    return change.execute('PRAGMA chat.page_count').fetchone()[0] < before


def remove_file(app, change, file_id):
    """Remove the bytes of a file; messages go on naming it. Returns one channel where it was."""
    row = change.execute('SELECT key FROM files WHERE id = ?', (file_id,)).fetchone()
    if row is None:
        return None
    change.update('files', file_id, removed_at=change.now)
    change.afterwards(lambda: unlink(app.file_path(row['key'])))
    place = change.execute('SELECT channel_id FROM attachments JOIN messages ON messages.id = message_id WHERE file_id = ?',
                           (file_id,)).fetchone()
    return place and place['channel_id']


def forget_message(app, change, message_id):
    """Remove a message and all that hangs on it, as if it had never been. Returns its channel."""
    row = change.execute('SELECT * FROM messages WHERE id = ?', (message_id,)).fetchone()
    if row is None:
        return None
    for before, after in REWORDINGS:
        before(app, change, row)
    drop_parts(app, change, message_id)
    for table in ('saved', 'previews'):
        change.execute('DELETE FROM %s WHERE message_id = ?' % table, (message_id,))
    change.execute('DELETE FROM messages WHERE id = ?', (message_id,))
    return row['channel_id']


# -- the clock

def watch_clock(app, sure, change):
    """Note when the clock and the time of service part ways; `sure` settles it."""
    second, noted = app.service.seconds(), get_meta(change, 'clock')
    if noted:
        then, then_second = map(int, noted.split())
        if abs((change.now - then) / 1000 - (second - then_second)) > CLOCK_MAY_DRIFT:
            set_meta(change, 'clock_jumped_second', str(second))
    if sure:
        set_meta(change, 'clock_jumped_second', '')
    set_meta(change, 'clock', '%d %d' % (change.now, second))


def clock_is_doubtful(app):
    jumped = get_meta(app.store.reader(), 'clock_jumped_second')
    return bool(jumped) and app.service.seconds() - int(jumped) < DAY


class Janitor:
    """Cleans five minutes after the start, then once a day of service; keeps what came of it."""

    def __init__(self, app):
        self.app, self.due, self.last = app, None, None
        self._cleaning = threading.Lock()

    def clean(self, **wish):
        with self._cleaning:
            self.last = clean(self.app, **wish)
        return self.last

    def look(self):
        """The chore: note the clock, and clean when it is time."""
        second = self.app.service.seconds()
        self.app.store.write(functools.partial(watch_clock, self.app, False))
        if self.due is None:
            self.due = second + FIRST_CLEANING
        elif second >= self.due:
            threading.Thread(target=self._clean_by_itself, name='janitor', daemon=True).start()
            self.due = second + DAY          # not before there was a thread for it

    def _clean_by_itself(self):
        """On a thread of its own: the other chores cannot wait until very much is deleted."""
        try:
            note_cleaning(self.app, self.clean())
        except (Refusal, OSError, sqlite3.Error) as error:
            say('The cleaning could not be finished: %s' % getattr(error, 'words', error))
        finally:
            self.app.store.forget_reader()


# -- storage

def storage(app, db):
    """What is stored, what may be, how long there is room for more at this pace, and what to worry about."""
    settings, disk = app.settings, shutil.disk_usage(app.folder)
    images, others = (db.execute("SELECT count(*), coalesce(sum(size), 0) %s AND type %s 'image/%%'" % (
        KEPT_FILES, kind)).fetchone() for kind in ('LIKE', 'NOT LIKE'))
    found = {'images': {'count': images[0], 'bytes': images[1]}, 'files': {'count': others[0], 'bytes': others[1]},
             'messages': {'count': db.execute('SELECT count(*) FROM messages').fetchone()[0], 'bytes': message_bytes(db)},
             'disk': {'total': disk.total, 'free': disk.free, 'spare': spare_bytes(disk)}}
    since = app.clock.now() - PACE_DAYS * DAY * 1000
    pace = db.execute('SELECT coalesce(sum(size), 0) %s AND created_at > ?' % KEPT_FILES, (since,)).fetchone()[0] / PACE_DAYS
    room = disk.free - found['disk']['spare']
    found['days_left'] = max(0, int(room / pace)) if pace else None
    uses = (('The disk', disk.total - disk.free, disk.total),
            ('The files', images[1] + others[1], settings.max_upload_dir_size_mb * 10 ** 6),
            ('The messages', found['messages']['bytes'], settings.max_message_db_size_mb * 10 ** 6))
    found['warnings'] = ['%s: %d %% of what there may be.' % (name, 100 * used / most)
                         for name, used, most in uses if most and used >= WARN_AT * most]
    return found


@route('GET', '/admin/storage', role='admin', limit='read')
def get_storage(request):
    """What is stored, how much room there is, what the last cleaning did, and since when the server runs."""
    app = request.app
    return Reply(200, dict(storage(app, request.db), cleaned=app.janitor.last, started_at=app.started_at))


@route('POST', '/admin/clean', role='admin', limit='change', lane='thread', audit='clean')
def clean_up(request, dry_run: Truth() = False, sure: Truth() = False):
    """Delete what the settings no longer keep, or say what that would be."""
    request.note(dry_run=dry_run, sure=sure)
    done = request.app.janitor.clean(dry_run=dry_run, sure=sure)
    request.note(files=done['files'], messages=done['messages'])
    return Reply(200, done)


@route('POST', '/admin/stop', role='admin', limit='change', audit='stop')
def stop_server(request):
    """Stop the chat, so that its stick can be removed."""
    request.app.ask_to_stop()
    return Reply(202, {'stopping': True})


# ---- 27. EXPORT ------------------------------------------------------
#
# A channel as one file for people who have no MiniMost: a page that holds its pictures and its own search, or JSON. It
# is written to a passing file, in pages of messages, so that its size does not matter.

EXPORT_PAGE = 500
LARGEST_INLINE = 20 * 10 ** 6    # bytes of a picture that stands in the page itself
EXPORT_SECONDS = 3600            # how long one that was never fetched lies about
EXPORT_LINES = {                 # what system lines say
    'created': 'created the channel', 'joined': 'joined', 'left': 'left', 'added': 'added {who}', 'removed': 'removed {who}',
    'renamed': 'renamed the channel from {from} to {to}', 'topic': 'set the topic: {to}', 'archived': 'archived the channel',
    'unarchived': 'opened the channel again', 'posting': 'changed who may write: {to}'}
EXPORT_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #1b2a2c; background: #fff }
header { border-bottom: 1px solid #ccd4d4; margin-bottom: 1rem } h1 { margin: 0 } h2 { font-size: 1rem; margin: 1.5rem 0 .5rem }
article { margin: .75rem 0; break-inside: avoid } article > b { margin-right: .5rem } time, .small { color: #5a6768; font-size: .85rem }
.text { white-space: pre-wrap; overflow-wrap: anywhere; margin: .1rem 0 } .system { color: #5a6768 }
blockquote { margin: .25rem 0; padding-left: .75rem; border-left: 3px solid #9cc5c8; color: #5a6768 }
img { max-width: 100%; max-height: 24rem; display: block } input { font: inherit; width: 100%; padding: .4rem; margin: .5rem 0 1rem }
@media print { input { display: none } body { margin: 0 } }
@media (prefers-color-scheme: dark) { @media screen { body { color: #e6eded; background: #101718 } .small, time, .system, blockquote { color: #9fb0b1 } } }
"""
EXPORT_SCRIPT = """
document.querySelector('input').addEventListener('input', event => {
  const words = event.target.value.toLowerCase().split(/\\s+/).filter(Boolean);
  for (const article of document.querySelectorAll('article')) {
    const text = article.textContent.toLowerCase();
    article.hidden = !words.every(word => text.includes(word));
  }
});
"""


class Export:
    """What of a channel somebody may see, between two times in milliseconds; `since` is where a late joiner's past begins."""

    def __init__(self, app, db, channel, begin, end, since=0):
        self.app, self.db, self.channel, self.begin, self.end, self.since = app, db, channel, begin, end, since
        self.names = {row['id']: row['display_name'] for row in db.execute('SELECT id, display_name FROM users WHERE approved')}

    @property
    def title(self):
        if self.channel['name']:
            return '#' + self.channel['name']
        return ', '.join(self.names[int(user_id)] for user_id in self.channel['direct_key'].split('-'))

    def messages(self):
        """The messages, oldest first, as the API gives them."""
        after = self.since
        while True:
            rows = self.db.execute('SELECT * FROM messages WHERE channel_id = ? AND id > ? AND created_at >= ? AND created_at < ? '
                                   'ORDER BY id LIMIT ?', (self.channel['id'], after, self.begin, self.end, EXPORT_PAGE)).fetchall()
            if not rows:
                return
            yield from message_values(self.db, rows)
            after = rows[-1]['id']

    # -- as JSON

    def as_json(self):
        """Pieces of {place, channel, exported_at, users, messages}."""
        head = {'place': self.app.settings.name, 'channel': self.title, 'exported_at': self.app.clock.now(),
                'users': [{'id': user_id, 'display_name': name} for user_id, name in sorted(self.names.items())]}
        yield json.dumps(head, ensure_ascii=False)[:-1] + ', "messages": ['
        for number, message in enumerate(self.messages()):
            yield (',\n' if number else '\n') + json.dumps(message, ensure_ascii=False)
        yield '\n]}\n'

    # -- as a page

    def as_page(self):
        """Pieces of a page; all that people wrote is escaped."""
        exported = time.strftime('%Y-%m-%d %H:%M', time.localtime(self.app.clock.now() / 1000))
        yield ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
               '<title>%s</title><style>%s</style></head><body><header><h1>%s</h1><p class="small">%s, exported on %s</p></header>\n'
               '<input type="search" placeholder="Search" aria-label="Search"><main>\n' % (
                   html.escape(self.title), EXPORT_STYLE, html.escape(self.title), html.escape(self.app.settings.name), exported))
        day = None
        for message in self.messages():
            at = time.localtime(message['created_at'] / 1000)
            if at[:3] != day:
                day = at[:3]
                yield '<h2>%s</h2>\n' % time.strftime('%Y-%m-%d', at)
            yield self.article(message, at)
        yield '</main><script>%s</script></body></html>\n' % EXPORT_SCRIPT

    def article(self, message, at):
        parts = [self.quote(message), '<p class="text">%s</p>' % html.escape(message['text']) if message['text'] else '']
        parts += map(self.file, message['files'])
        reactions = '  '.join('%s %d' % (html.escape(emoji), len(who)) for emoji, who in message['reactions'].items())
        parts += ['<p class="small">%s</p>' % reactions if reactions else '']
        if message['kind'] != 'text' or message['deleted']:
            parts = ['<span class="system">%s</span>' % html.escape(self.line(message))]
        return '<article id="m%d"><b>%s</b><time>%s%s</time>%s</article>\n' % (
            message['id'], html.escape(self.name(message['user_id'])), time.strftime('%H:%M', at),
            ', edited' if message['edited_at'] else '', ''.join(parts))

    def name(self, user_id):
        return self.names.get(user_id, 'Somebody')

    def line(self, message):
        """What a message says that nobody wrote."""
        if message['deleted']:
            return ' deleted this message'
        if message['kind'] == 'call':
            return ' call' if not message['data'].get('seconds') else ' call, %d minutes' % (message['data']['seconds'] // 60 + 1)
        data = dict(message['data'] or {})
        data['who'] = self.name(data.get('user_id'))
        return ' ' + EXPORT_LINES.get(data.get('event'), 'changed the channel').format_map(collections.defaultdict(str, data))

    def quote(self, message):
        if not message['reply_to']:
            return ''
        quoted = self.db.execute('SELECT user_id, text FROM messages WHERE id = ? AND id > ? AND channel_id = ?',
                                 (message['reply_to'], self.since, self.channel['id'])).fetchone()
        if quoted is None:
            return ''
        return '<blockquote><a href="#m%d">%s</a> %s</blockquote>' % (
            message['reply_to'], html.escape(self.name(quoted['user_id'])), html.escape(quoted['text'][:200]))

    def file(self, file):
        path, name = self.app.file_path(file['key']), html.escape(file['name'])
        if not file['type'].startswith('image/') or file['size'] > LARGEST_INLINE or not os.path.exists(path):
            return '<p class="small">%s (%d bytes)</p>' % (name, file['size'])
        with open(path, 'rb') as content:
            return '<img alt="%s" src="data:%s;base64,%s">' % (name, file['type'], base64.b64encode(content.read()).decode())


EXPORT_FORMS = {'html': Export.as_page, 'json': Export.as_json}


def write_export(pieces, path):
    with open_private(path) as file:
        for piece in pieces:
            file.write(piece.encode('utf-8'))


def within_space(app, pieces):
    """The pieces of an export, for as long as the disk has room to spare."""
    for piece in pieces:
        require_space(app, len(piece))
        yield piece


def day_or(name, text, days_later, otherwise):
    return start_of_day(name, text, days_later) if text else otherwise


@route('GET', '/export/<channel>', limit='export', lane='thread', audit='export')
def export_channel(request, channel, from_: Text(0, 10) = '', to: Text(0, 10) = '', format: OneOf(*EXPORT_FORMS) = 'html'):
    """A channel between two days as one file: html, which holds its pictures and a search, or json."""
    require_joined(channel)
    request.note(kind=channel['kind'], channel=channel['id'] if channel['kind'] == 'public' else None)
    export = Export(request.app, request.db, channel, day_or('from', from_, 0, 0), day_or('to', to, 1, LARGEST),
                    channel['since_message'])
    path = request.app.path(os.path.join('exports', token(request.app.random_bytes)))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        write_export(within_space(request.app, EXPORT_FORMS[format](export)), path)
    except BaseException:
        unlink(path)
        raise
    name = '%s.%s' % (re.sub('[^A-Za-z0-9-]+', '-', export.title).strip('-') or 'channel', format)
    headers = [('Content-Disposition', 'attachment; filename="%s"' % name), ('Content-Security-Policy', FILE_POLICY)]
    reply = PassingFile(200, path, 0, os.path.getsize(path), headers, 'application/octet-stream')
    if request.method == 'HEAD':
        unlink(path)
    return reply


def sweep_exports(app):
    """Remove exports whose reader went away."""
    folder = app.path('exports')
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if time.time() - os.path.getmtime(os.path.join(folder, name)) > EXPORT_SECONDS:
            unlink(os.path.join(folder, name))


# ---- 28. SERVER ------------------------------------------------------
#
# A connection with nothing to do costs no thread: it waits in the lot. What it brings goes to a small crew of
# workers; only what may take long, uploads, downloads and hashing, gets a thread of its own. A connection has
# one owner at a time and is handed over whole, so nothing about it needs a lock.

CREW, LINGERING = 10, 8          # workers, and how many of them may wait for the next request of a busy peer
LINGER = 0.02                    # seconds that they wait
LONG_THREADS, LONG_PER_ADDRESS = 256, 16
CONNECTIONS, RESERVED_DESCRIPTORS = 4096, 160       # the latter for the databases of every thread, and files
FEWEST_CONNECTIONS, FEWEST_THREADS = 16, 2          # where there are hardly any descriptors, of each kind of threads
HANDSHAKE_SECONDS = HEAD_SECONDS = 10
IDLE_SECONDS, PROXY_IDLE_SECONDS = 30, 75
WINDOW_SECONDS, WINDOW_BYTES = 10, 10240     # how slowly a body may come
STALLED_SECONDS = 30             # without progress in sending
DRAIN_SECONDS, LONGEST_DRAIN = 2, 30         # after the last reply: without a byte from the peer, and in all
DRAIN_BYTES = MOST_JSON * 4      # besides a body that was announced: what is pipelined, and what TLS adds
SWEEP_SECONDS = 0.25
RECORD = 16384                   # a TLS record (RFC 8446 section 5.1): tried again whole after a full socket buffer


class Connection:
    """One peer's connection and all that is known of it."""

    __slots__ = ('socket', 'peer', 'is_tls', 'state', 'deadline', 'buffer', 'out', 'closing', 'head', 'known',
                 'request', 'window', 'listener', 'signed_in', 'since', 'unread')

    def __init__(self, sock, peer, deadline):
        self.socket, self.peer, self.deadline = sock, peer, deadline
        self.is_tls, self.state, self.closing, self.signed_in, self.since = False, 'new', False, False, deadline
        self.buffer, self.out, self.unread = bytearray(), collections.deque(), 0
        self.head, self.known, self.request, self.window, self.listener = None, (None, None), None, 0, None

    def fill(self, most=MOST_HEAD + MOST_JSON):
        """Take what has come into the buffer; returns False when the peer is gone."""
        while len(self.buffer) <= most:
            try:
                piece = self.socket.recv(65536)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError, socket.timeout):
                return True
            except OSError:
                return False
            if not piece:
                return False
            self.buffer += piece
            if not (self.is_tls and self.socket.pending()):
                return True
        return True

    def flush(self):
        """Send what waits; returns whether all is sent. Raises OSError when the peer is gone."""
        while self.out:
            piece = self.out[0]
            try:
                sent = self.socket.send(piece[:RECORD])
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
                return False
            if sent == len(piece):
                self.out.popleft()
            else:
                self.out[0] = piece[sent:]
        return True

    def put(self, data):
        self.out.append(memoryview(data))

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.close()


# -- from bytes to requests

def next_request(app, connection):
    """The next complete request in a connection's buffer, or None while bytes are missing.

    A request whose body its handler reads by itself is complete with its head.
    Raises: Refusal for what cannot be understood; the connection is then closed.
    """
    if connection.head is None and not take_head(app, connection):
        return None
    request = connection.head
    if request.body_is_raw:
        connection.head = None
        return request
    if len(connection.buffer) < request.length:
        return None
    request.body = bytes(connection.buffer[:request.length])
    del connection.buffer[:request.length]
    connection.head = None
    return request


def take_head(app, connection):
    """Read a request's head once it is complete; returns whether it was."""
    buffer = connection.buffer
    end = buffer.find(b'\r\n\r\n')
    if end < 0 or end > MOST_HEAD:
        refuse_bad_start(buffer)
        return False
    head, connection.known = read_head(bytes(buffer[:end]), connection.known)
    del buffer[:end + 4]
    if app.context and not connection.is_tls:
        raise use_https(head)
    request = connection.head = Request(app, head, connection.peer, connection.is_tls)
    with contextlib.suppress(Refusal):       # raised again in the dispatch, where it becomes a reply
        choose_route(request)
    if request.is_too_large:
        raise Refusal(413, 'too_large', 'The request is too large.', headers=[('Connection', 'close')])
    if not request.body_is_raw and request.awaits_continue and len(buffer) < request.length:
        connection.put(CONTINUE)
    return True


def use_https(head):
    """What plain HTTP hears on the port of HTTPS: a GET is sent on, all else told in words."""
    if head.method not in ('GET', 'HEAD'):
        return malformed('This port speaks HTTPS.')
    return Refusal(307, 'use_https', 'This port speaks HTTPS.', headers=[
        ('Location', 'https://%s%s' % (head.headers['host'], head.target)), ('Connection', 'close')])


CONTINUE = b'HTTP/1.1 100 Continue\r\n\r\n'


def refuse_bad_start(buffer):
    """Refuse a head as soon as it cannot become a good one."""
    line, found, _ = buffer[:MOST_LINE + 2].partition(b'\r\n')
    if len(line) > MOST_LINE:
        raise malformed('The address is too long.', 414)
    if BARE_BREAK.search(buffer, 0, MOST_HEAD) or line and not 65 <= line[0] <= 90:
        raise malformed('The request is malformed.')
    if found and not REQUEST_LINE.fullmatch(line):
        raise bad_request_line(line)
    if len(buffer) > MOST_HEAD:
        raise malformed('The headers are too large.', 431)


def body_receiver(connection, request):
    """A function that gives a handler the next bytes of the body, at most so many, waiting for them.

    Raises: Refusal 408 when they come too slowly, 400 when the peer is gone.
    """
    clock = request.app.clock
    window = [clock.steady(), 0]

    def receive(most):
        piece = bytes(connection.buffer[:most])
        del connection.buffer[:most]
        piece = piece or receive_from(connection.socket, most, request)
        request.left -= len(piece)
        window[1] += len(piece)
        if clock.steady() - window[0] > WINDOW_SECONDS:
            if window[1] < WINDOW_BYTES:
                raise too_slow()
            window[:] = clock.steady(), 0
        return piece
    return receive


def receive_from(sock, most, request):
    try:
        if request.awaits_continue:
            request.awaits_continue = False
            sock.sendall(CONTINUE)
        piece = sock.recv(most)
    except socket.timeout:
        raise too_slow()
    except OSError:
        piece = b''
    if not piece:
        raise Refusal(400, 'cut_off', 'The request ended too early.', headers=[('Connection', 'close')])
    return piece


def too_slow():
    return Refusal(408, 'too_slow', 'The request came too slowly.', headers=[('Connection', 'close')])


# -- replies

def put_reply(connection, request, reply):
    """Queue a reply, and note whether the connection ends with it."""
    asked = any(name == 'Connection' for name, value in reply.headers)
    ends = asked or request is None or not request.keeps_alive or request.left > 0 or request.app.is_stopping
    connection.closing = connection.closing or ends
    connection.unread = request.left if request else connection.head.length if connection.head else 0
    connection.put(reply.wire(request is not None and request.method == 'HEAD', ends and not asked))


def send_file(connection, request, reply):
    """Send a part of a file piece by piece; runs on a thread of its own."""
    connection.socket.settimeout(STALLED_SECONDS)
    put_reply(connection, request, reply)
    connection.socket.sendall(connection.out.popleft())
    left = reply.length
    with reply.opened() as file:
        while left:
            piece = file.read(min(PIECE, left))
            if not piece:
                raise OSError('the file has become shorter')
            connection.socket.sendall(piece)
            left -= len(piece)


class Lot:
    """The thread that keeps all connections with nothing to do, and answers the polls."""

    def __init__(self, app):
        self.app = app
        self._selector = selectors.DefaultSelector()
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._selector.register(self._ear, selectors.EVENT_READ, None)
        self._orders, self._news = collections.deque(), collections.deque()
        self._rung = False
        self._held = {}                      # connections in the lot: their selector events
        self._listeners = {}                 # user id: connections that wait in a poll
        self._addresses = collections.Counter()
        self._wired = (None, None)
        self._swept = 0
        self._thread = threading.Thread(target=self._run, name='lot', daemon=True)
        self.steps = {'new': self._greet, 'handshake': self._hand_over, 'head': self._read, 'poll': self._overhear,
                      'write': self._write, 'drain': self._drain}

    # -- from other threads

    def start(self):
        self._thread.start()

    def order(self, function, *arguments):
        """Have the lot's thread call a function."""
        self._orders.append((function, arguments))
        self._ring()

    def news(self, audiences):
        """There are events for these audiences."""
        self._news.append(audiences)
        self._ring()

    def adopt(self, sock, peer):
        sock.setblocking(False)
        self.order(self._attempt, self._admit, Connection(sock, peer, self.app.clock.steady() + HANDSHAKE_SECONDS))

    def take(self, connection):
        """A worker gives a connection back."""
        self.order(self._attempt, self._settle, connection)

    def end_sessions(self, session_ids):
        self.order(self._answer_ended, session_ids)

    def stop(self):
        """Answer every poll, close every connection, end the thread."""
        self.order(self._finish)
        self._thread.join(5)

    def _ring(self):
        if not self._rung:
            self._rung = True
            try:
                with contextlib.suppress(BlockingIOError):       # it is ringing loudly
                    self._bell.send(b'!')
            except OSError:                  # no memory for a byte: heard with the next, or after a moment
                self._rung = False

    # -- the loop

    def _run(self):
        self.app.core.stay()
        while self._selector is not None:
            try:
                self._turn()
            except Exception:                # the edge of this thread: the lot must live
                report()

    def _turn(self):
        ready = self._selector.select(SWEEP_SECONDS)
        for key, events in ready:
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._ear.recv(4096)
                self._rung = False
            elif key.data in self._held:
                self._attempt(self.steps[key.data.state], key.data)
        for _ in range(len(self._orders)):       # those that are added meanwhile have their turn next
            function, arguments = self._orders.popleft()
            function(*arguments)
            if self._selector is None:
                return
        self._deliver()
        self._sweep()

    def _attempt(self, step, connection):
        """Do one step for a connection; what goes wrong with it is its own end alone."""
        try:
            step(connection)
        except Refusal as refusal:
            connection.closing = True
            put_reply(connection, None, error_reply(refusal))
            self._attempt(self._send, connection)
        except OSError:
            self._drop(connection)
        except Exception:                    # the edge of this thread: one connection ends, the lot goes on
            report()
            self._drop(connection)

    def _watch(self, connection, events=selectors.EVENT_READ):
        held = self._held.get(connection)
        if held is None:
            self._selector.register(connection.socket, events, connection)
        elif held != events:
            self._selector.modify(connection.socket, events, connection)
        self._held[connection] = events

    def _let_go(self, connection):
        """Stop watching a connection, before somebody else owns it."""
        if self._held.pop(connection, None) is not None:
            self._selector.unregister(connection.socket)

    def _drop(self, connection):
        self._let_go(connection)
        self._unlisten(connection)
        self._addresses[connection.peer] -= 1
        if self._addresses[connection.peer] <= 0:
            del self._addresses[connection.peer]
        connection.close()

    # -- coming and reading

    def _admit(self, connection):
        self._addresses[connection.peer] += 1
        share = self.app.settings.max_connections_per_address
        if self._addresses[connection.peer] > share and not self.app.is_trusted(connection.peer):
            return self._turn_away(connection)
        if sum(self._addresses.values()) > self.app.most_connections and not self.close_idlest():
            return self._turn_away(connection)
        self._watch(connection)

    def _turn_away(self, connection):
        """Too many from one address: told so where that costs no handshake."""
        if self.app.context is None:
            connection.put(error_reply(busy()).wire(closing=True))
            with contextlib.suppress(OSError):
                connection.flush()
        self._drop(connection)

    def close_idlest(self):
        """Make room: the connection that has waited longest goes, of strangers first; returns whether there was one."""
        idle = [one for one in self._held if one.state in ('new', 'handshake', 'head', 'drain')]
        if idle:
            self._drop(min(idle, key=lambda one: (one.signed_in, one.since)))
        return bool(idle)

    def _greet(self, connection):
        """Look at the first byte: 0x16 begins a TLS handshake (RFC 8446 section 5.1), a letter plain HTTP."""
        first = connection.socket.recv(1, socket.MSG_PEEK)
        if not first:
            return self._drop(connection)
        if self.app.context is None or first != b'\x16':
            connection.state = 'head'
            return self._read(connection)
        self._let_go(connection)
        connection.socket = self.app.context.wrap_socket(
            connection.socket, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True)
        connection.is_tls, connection.state = True, 'handshake'
        self.app.crew.work(connection)

    def _hand_over(self, connection):
        self._let_go(connection)
        self.app.crew.work(connection)

    def _read(self, connection):
        was_empty = not connection.buffer and connection.head is None
        if not connection.fill():
            return self._drop(connection)
        if was_empty and connection.buffer:
            connection.deadline = self.app.clock.steady() + HEAD_SECONDS
        self._proceed(connection)

    def _proceed(self, connection):
        """Go on with what the buffer holds."""
        had_head = connection.head is not None
        request = next_request(self.app, connection)
        if request is None:
            if connection.head is not None and not had_head:
                self._open_window(connection)
            if connection.out:
                connection.flush()
            return self._watch(connection)
        connection.request = request
        self._begin(connection)

    def _begin(self, connection):
        """Start on a request that is complete."""
        if connection.request.lane == 'lot':
            return self._poll(connection, connection.request)
        self._let_go(connection)
        self.app.run(connection)

    def _open_window(self, connection):
        connection.window = len(connection.buffer)
        connection.deadline = self.app.clock.steady() + WINDOW_SECONDS

    def _settle(self, connection):
        """Take back a connection from a worker and see what it needs next."""
        if connection.state == 'gone':
            self._drop(connection)
        elif connection.out or connection.closing:
            self._attempt(self._send, connection)
        else:
            self._attempt(self._begin if connection.request else self._rest, connection)

    def _rest(self, connection):
        """Nothing to send: read on, or wait for the next request."""
        if connection.state == 'handshake':
            return self._watch(connection)
        begun = connection.buffer or connection.head is not None
        connection.state, connection.request, connection.since = 'head', None, self.app.clock.steady()
        connection.deadline = connection.since + (
            HEAD_SECONDS if begun else PROXY_IDLE_SECONDS if is_proxy(self.app, connection.peer) else IDLE_SECONDS)
        is_pending = connection.is_tls and connection.socket.pending()
        if begun or is_pending:
            self._let_go(connection)             # by way of the orders: what is pipelined must neither nest nor keep the lot
            return self.order(self._attempt, self._read if is_pending else self._proceed, connection)
        self._watch(connection)

    # -- sending

    def _send(self, connection):
        connection.state = 'write'
        connection.deadline = self.app.clock.steady() + STALLED_SECONDS
        self._write(connection)

    def _write(self, connection):
        waiting = sum(map(len, connection.out))
        if not connection.flush():
            if sum(map(len, connection.out)) < waiting:
                connection.deadline = self.app.clock.steady() + STALLED_SECONDS
            return self._watch(connection, selectors.EVENT_WRITE)
        if not connection.closing:
            return self._rest(connection)
        connection.state, connection.head, connection.since = 'drain', None, self.app.clock.steady()
        connection.deadline = connection.since + DRAIN_SECONDS
        connection.unread += connection.unread // 16 + DRAIN_BYTES
        end_sending(connection)
        self._watch(connection)

    def _drain(self, connection):
        """Throw away what still comes, as it comes: a peer reads the last reply after it has sent all that it announced."""
        piece = socket.socket.recv(connection.socket, 65536)         # below TLS, which would not read on after its end
        connection.unread -= len(piece)
        connection.deadline = min(self.app.clock.steady() + DRAIN_SECONDS, connection.since + LONGEST_DRAIN)
        if not piece or connection.unread < 0:
            self._drop(connection)

    # -- polls

    def _poll(self, connection, request):
        reply = dispatch(request)
        if not isinstance(reply, Parked):
            put_reply(connection, request, reply)
            return self._send(connection)
        connection.signed_in = True
        connection.listener, connection.state = reply.listener, 'poll'
        connection.deadline = reply.listener.deadline
        if self._tell(connection):
            return
        if connection.deadline <= self.app.clock.steady():
            self._expire(connection)
        else:
            self._listeners.setdefault(reply.listener.session.user_id, set()).add(connection)
            self._watch(connection)

    def _tell(self, connection):
        """Answer a poll if there is news for it, or leave it to the crew; returns whether it waits no more."""
        try:
            body = connection.listener.answer(self.app)
        except Overtaken:
            self._leave_to_crew(connection)
            return True
        except Refusal as refusal:
            self._finish_poll(connection, error_reply(refusal).wire())
            return True
        if body is None:
            return False
        if body is not self._wired[0]:
            self._wired = body, Reply(200, content=body).wire()
        self._finish_poll(connection, self._wired[1])
        return True

    def _leave_to_crew(self, connection):
        """The answer must come from the table, which may take a moment."""
        listener = connection.listener
        self._unlisten(connection)
        connection.listener = listener
        self._let_go(connection)
        self.app.crew.work(connection)

    def _finish_poll(self, connection, data):
        """Send a poll's answer; one that came with "Connection: close" ends after it."""
        self._unlisten(connection)
        connection.closing = not connection.request.keeps_alive
        connection.put(data)
        self._send(connection)

    def _unlisten(self, connection):
        if connection.listener is None:
            return
        user_id = connection.listener.session.user_id
        connections = self._listeners.get(user_id, set())
        connections.discard(connection)
        if not connections:
            self._listeners.pop(user_id, None)
        listener, connection.listener = connection.listener, None
        listener.leave(self.app)

    def _deliver(self):
        hearing = set()
        while self._news:
            for audience in self._news.popleft():
                hearing.update([user_id for user_id in self._listeners if user_id in audience])
        for user_id in hearing:
            for connection in list(self._listeners.get(user_id, ())):
                self._attempt(self._tell, connection)

    def _overhear(self, connection):
        """A peer that waits in a poll has gone, or already sends its next request."""
        if not connection.fill(MOST_HEAD) or len(connection.buffer) > MOST_HEAD:
            self._drop(connection)

    def _answer_ended(self, session_ids):
        reply = error_reply(Refusal(401, 'sign_in', 'This session has ended. Sign in again.')).wire()
        for connection in [one for waiting in self._listeners.values() for one in waiting]:
            if connection.listener.session.id in session_ids:
                self._attempt(lambda one: self._finish_poll(one, reply), connection)

    # -- time

    def _sweep(self):
        now = self.app.clock.steady()
        if now - self._swept < SWEEP_SECONDS:
            return
        self._swept = now
        for connection in [one for one in self._held if one.deadline <= now]:
            self._attempt(self._expire, connection)

    def _expire(self, connection):
        if connection.state == 'poll':
            return self._finish_poll(connection, Reply(200, content=connection.listener.quiet(self.app)).wire())
        if connection.head is not None and len(connection.buffer) - connection.window >= WINDOW_BYTES:
            return self._open_window(connection)
        if connection.state == 'head' and (connection.buffer or connection.head is not None):
            raise too_slow()
        self._drop(connection)

    def _finish(self):
        for connections in list(self._listeners.values()):
            for connection in list(connections):
                connection.request.keeps_alive = False
                self._attempt(self._expire, connection)
        for connection in list(self._held):
            self._drop(connection)
        self._selector.close()
        self._selector = None
        self._bell.close()
        self._ear.close()


def end_sending(connection):
    """Say that nothing more comes: close_notify on TLS, then the end of the stream."""
    with contextlib.suppress(OSError, ValueError):
        if connection.is_tls:
            connection.socket.unwrap()
    with contextlib.suppress(OSError):
        connection.socket.shutdown(socket.SHUT_WR)


def shake_hands(connection):
    """Take the TLS handshake as far as the bytes go; returns whether it is done."""
    try:
        connection.socket.do_handshake()
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return False
    connection.state = 'head'
    return True


def serve_request(app, connection, may_wait=False):
    """Answer the request that a connection holds; returns whether the connection is still the caller's.

    A large file is sent by a thread of its own, which then owns the connection, unless the caller is one that may wait.
    """
    request, begun = connection.request, app.clock.steady()
    reply = dispatch(request)
    connection.request, connection.signed_in = None, request.session is not None
    app.log(request, reply, app.clock.steady() - begun)
    if isinstance(reply, FileReply) and request.method != 'HEAD':
        if reply.length <= PIECE:
            reply.load()
        elif may_wait:
            send_file(connection, request, reply)
            return True
        elif app.run_long(lambda: send_file(connection, request, reply), connection):
            return False
        else:
            reply = error_reply(busy())
    put_reply(connection, request, reply)
    connection.flush()
    return True


def busy():
    return try_later(503, 'busy', 'The server is busy. Trying again by itself.', 1)


def serve_slowly(app, connection):
    """Answer on a thread that may wait for the peer's bytes."""
    request = connection.request
    connection.socket.settimeout(WINDOW_SECONDS)
    if request.body_is_raw:
        request.receive = body_receiver(connection, request)
    serve_request(app, connection, may_wait=True)


def open_reader(store, opened):
    """Open this thread's reading connection while there are descriptors for it, and release the one who waits for that."""
    try:
        store.reader()
    except sqlite3.Error:
        pass                                 # it is tried again when it is needed
    finally:
        opened.release()


class Crew:
    """A few threads that do the short work. They never wait for a stranger, but for a moment for a busy one."""

    def __init__(self, app):
        self.app = app
        self._queue = make_queue()
        self._may_linger = threading.Semaphore(LINGERING)
        self._opened = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._run, name='worker', daemon=True)
                         for _ in range(FEWEST_THREADS if app.is_cramped else CREW)]

    def start(self):
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            self._opened.acquire()

    def stop(self):
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(5)

    def work(self, connection):
        self._queue.put(connection)

    def _run(self):
        self.app.core.stay()
        open_reader(self.app.store, self._opened)
        while True:
            connection = self._queue.get()
            if connection is None:
                return
            if self._is_still_ours(connection):
                self.app.lot.take(connection)

    def _is_still_ours(self, connection):
        try:
            return self._serve(connection)
        except OSError:
            connection.state = 'gone'
        except Exception:                    # the edge of this thread: a worker must live
            connection.state = 'gone'
            report()
        return True

    def _serve(self, connection):
        """Do what a connection brings; returns whether it goes back to the lot."""
        if connection.state == 'handshake':
            if not shake_hands(connection):
                return True
        elif connection.listener:
            return self._catch_up(connection)
        elif not serve_request(self.app, connection):
            return False
        while self._goes_on(connection):
            if not serve_request(self.app, connection):
                return False
        return True

    def _catch_up(self, connection):
        """Answer the poll of one who was away for longer than memory reaches."""
        request, listener = connection.request, connection.listener
        connection.request = connection.listener = None
        body = self.app.news.answer_from_table(self.app.store.reader(), listener)
        put_reply(connection, request, Reply(200, content=body))
        connection.flush()
        return True

    def _goes_on(self, connection):
        """Wait a moment for the peer's next request; False leaves the connection to the lot."""
        if connection.out or connection.closing or not self._queue.empty():
            return False
        if not connection.buffer and not self._linger(connection):
            return False
        try:
            connection.request = next_request(self.app, connection)
        except Refusal as refusal:
            connection.closing = True
            put_reply(connection, None, error_reply(refusal))
            return False
        return connection.request is not None and connection.request.lane == 'crew'

    def _linger(self, connection):
        """Wait for bytes; returns whether some came."""
        if not self._may_linger.acquire(blocking=False):
            return False
        try:
            connection.socket.settimeout(LINGER)
            if not connection.fill():
                raise OSError('the peer is gone')
        finally:
            connection.socket.settimeout(0)
            self._may_linger.release()
        return bool(connection.buffer)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """The listening socket, and the threads for what may take long; everything else is the lot's."""

    daemon_threads = True
    allow_reuse_address = os.name != 'nt'    # on Windows it would let a second server take the port
    request_queue_size = 128

    def __init__(self, app, host, port):
        self.app = app
        self.address_family, host = listening_family(host)
        http.server.HTTPServer.__init__(self, (host, port), None)

    @property
    def url(self):
        host = '127.0.0.1' if self.server_name in ('::', '0.0.0.0') else self.server_name
        return '%s://%s:%d' % ('https' if self.app.context else 'http', '[%s]' % host if ':' in host else host, self.server_port)

    def server_bind(self):
        """Bind without the name look-up of HTTPServer, for IPv4 and IPv6 together where there is both."""
        if self.address_family == socket.AF_INET6:
            with contextlib.suppress(OSError, AttributeError):
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if hasattr(socket, 'SO_EXCLUSIVEADDRUSE'):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def get_request(self):
        """Accept; when the descriptors run out, make room and wait a moment rather than spin."""
        try:
            return self.socket.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self.app.lot.order(self.app.lot.close_idlest)
                time.sleep(0.05)
            raise

    def process_request(self, sock, address):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app.lot.adopt(sock, plain_address(address[0]))

    def handle_error(self, sock, address):
        """One could not be taken in: told where it can be, for the next must come in."""
        report()

    def start_thread(self, function, connection):
        socketserver.ThreadingMixIn.process_request(self, function, connection)

    def process_request_thread(self, function, connection):
        function(connection)


class UnixServer(Server):
    """Listens on a Unix socket, for a proxy on this machine that may open it as its owner or as one of a group."""

    allow_reuse_address = False
    address_family = getattr(socket, 'AF_UNIX', None)

    def __init__(self, app, path, group=None):
        self.app, self.group, self.server_name = app, group, ''
        http.server.HTTPServer.__init__(self, path, None)

    @property
    def url(self):
        return 'unix:' + self.server_name

    def server_bind(self):
        """Bind; until its group is set the socket is its owner's alone."""
        path = os.path.abspath(self.server_address)
        make_socket_folder(os.path.dirname(path), self.group)
        remove_stale_socket(path)
        before = os.umask(0o177)
        try:
            self.socket.bind(path)
        finally:
            os.umask(before)
        if self.group:
            shutil.chown(path, group=self.group)
        os.chmod(path, 0o660)
        self.server_name, self.server_port = path, 0

    def server_close(self):
        Server.server_close(self)
        unlink(self.server_name)

    def process_request(self, sock, address):
        self.app.lot.adopt(sock, UNIX_PEER)


def make_socket_folder(folder, group):
    """A folder of the socket's own, which its group may enter; one that is there stays as it is."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)
        if group:
            shutil.chown(folder, group=group)
        os.chmod(folder, 0o750)


def remove_stale_socket(path):
    """Remove a socket that nobody listens on; OSError where somebody does, or where it is no socket."""
    if not os.path.exists(path):
        return
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        raise OSError(errno.EEXIST, 'there is another file')
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return os.unlink(path)
    raise OSError(errno.EADDRINUSE, 'another server listens there')


def plain_address(address):
    """An address without zone and without the mapping of IPv4 into IPv6."""
    address = address.partition('%')[0]
    return address[7:] if address.startswith('::ffff:') and '.' in address else address


class App:
    """One chat: its folder, its settings and all that runs; tests make two of them side by side."""

    def __init__(self, folder, settings, clock=None, random_bytes=os.urandom, log=None, plain=False, link_policy=None):
        self.folder, self.settings, self.clock = folder, settings, clock or Clock()
        self.random_bytes, self.log_line, self.plain, self.started_at = random_bytes, log, plain, self.clock.now()
        self.is_stopping, self.setup_code, self.context, self.has_index = False, '', None, False
        self.most_connections = raise_descriptor_limit()
        self.is_cramped = self.most_connections == FEWEST_CONNECTIONS
        self.core = Core()
        self.store = Store(folder, self.clock, self.core)
        self.backups, self.janitor = Backups(self), Janitor(self)
        self.ask_to_stop = lambda: None          # the command that serves takes this place
        self.news = News(self)
        self.service = Service(self.clock)
        self.passwords, self.throttle = Passwords(random_bytes), Throttle(settings, self.clock)
        self.locks, self.presence = Locks(settings, self.service), Presence(self.news, self.clock)
        self.audit = Audit(self.path('audit.log'), settings, self.clock)
        self.tokens = Tokens(self.store, self.service, random_bytes)
        self.calls = Calls(self.news, self.clock)
        self.stun, self.mdns = Stun(settings, self.clock, self.core), Mdns(self.clock, random_bytes)
        self.certificates = Certificates(folder, lambda: self.clock.now() / 1000, random_bytes)
        self._shows_old_certificate = False
        self.assets = Assets(os.path.join(HERE, 'static'))
        self.news.greetings.append(self._greet)
        if self.assets.version != VERSION:
            settings.problems.append('The folder static/ belongs to version %s, minimost.py is %s: copy both from the same place.' % (
                self.assets.version, VERSION))
        self.lot, self.crew, self.server, self.control_token = Lot(self), Crew(self), None, ''
        self.previewer = Previewer(self, link_policy or LinkPolicy(lambda: settings.link_preview_hosts, own_addresses))
        self._long, self._long_lock = collections.Counter(), threading.Lock()

    # -- opening and closing

    def open(self):
        """Take the folder, bring its databases up, and make what a first start needs."""
        make_private_folder(self.folder)
        with explained(self):
            self._lock = FolderLock(self.folder)
            try:
                self._open_store()
                self._open_tls()
            except BaseException:
                self._lock.release()
                raise

    def _open_store(self):
        for folder in (self.file_path(''), self.avatar_path('')):
            os.makedirs(folder, exist_ok=True)
        self.store.open()
        if set(self.store.journals.values()) != {'wal'}:
            self.settings.problems.append('SQLite cannot write ahead on this file system: all is as safe, but slower.')
        self.service.open(self.store)
        self.news.open(self.store)
        self.presence.open(self.store.reader())
        self.sessions = Sessions(read_secret(os.path.join(self.folder, 'secret.key'), self.random_bytes), self.store,
                                 self.service, self.settings, self.random_bytes)
        self.sessions.on_end = self.tokens.on_end = self.end_sessions
        self.news.on_news = self.lot.news
        self.origin = self.store.write(self._first_start)
        if not self.news.is_older:               # an older database does not know all files: it may be there by mistake
            sweep_folders(self)
        if not has_owner(self.store.reader()):
            self.setup_code = read_setup_code(self.path('setup-code'), self.random_bytes)

    def _first_start(self, change):
        for begin in STARTS:
            begin(self, change)
        if get_meta(change, 'origin') is None:
            set_meta(change, 'origin', token(self.random_bytes, 12))
        return get_meta(change, 'origin')

    def _open_tls(self):
        """HTTPS wherever there can be a certificate; else plain HTTP, which is said at the start."""
        label = self.settings.mdns_name
        self.own_names = frozenset(own_names() + ([label + '.local'] if label else []))
        if self.plain:
            return
        try:
            self.certificates.refresh(own_addresses(), sorted(self.own_names))
            self.context = self.certificates.context()
        except CertificateTrouble as error:
            self.settings.problems.append('There is no certificate (%s); the chat is served over plain HTTP.' % error)

    def open_stun(self, host):
        """Answer STUN where the chat is served; if that cannot be, the chat goes on and the page knows."""
        if self.settings.stun_port is None:
            return
        try:
            self.stun.start(host, self.settings.stun_port)
        except OSError as error:
            self.settings.problems.append('UDP port %d cannot be used for STUN (%s): on networks without a router some '
                                          'calls will not connect.' % (self.settings.stun_port, error.strerror))

    def open_mdns(self):
        """Answer to the name that the setting gives, where others reach the server; if that cannot be, there are still the addresses."""
        label, host = self.settings.mdns_name, self.server.socket.getsockname()[0]
        if label is None or self.server.address_family == UnixServer.address_family or is_loopback(host):
            return
        if label + '.local' in own_names():
            return self.settings.problems.append('The setting mdns_name is the name of this machine, which answers to it by itself.')
        try:
            self.mdns.start(label, functools.partial(lan_interfaces, host), self._take_name)
        except OSError as error:
            self.settings.problems.append('UDP port %d cannot be shared (%s): the server does not answer to %s.local.' % (
                self.mdns.port, error.strerror, label))

    def _take_name(self, host):
        """Another machine has the name: the certificate follows at its next refresh."""
        self.own_names |= {host}
        say('The name was taken on this network; the server answers to %s.' % host)

    def refresh_certificate(self):
        """Follow the machine's addresses; a certificate that changed is loaded by the thread that uses it."""
        if self.context is None:
            return
        with contextlib.suppress(CertificateTrouble):
            if self.certificates.refresh(own_addresses(), sorted(self.own_names)):
                self._shows_old_certificate = True
        if self._shows_old_certificate:
            self.lot.order(self._reload_certificate)

    def _reload_certificate(self):
        """Called by the lot; what could not be loaded, for want of a descriptor perhaps, is due again at the next look."""
        self._shows_old_certificate = False
        try:
            self.certificates.reload(self.context)
        except CertificateTrouble as error:
            self._shows_old_certificate = True
            say('The new certificate could not be loaded: %s.' % error)

    def close(self):
        for note in (self.service.note, self.news.note, self.presence.note):
            with contextlib.suppress(Refusal):       # a full disk must not keep the databases from being closed
                self.store.write(note)
        self.store.close()
        self._lock.release()

    def end_sessions(self, session_ids):
        """Sessions have been revoked: what goes on by them ends."""
        self.lot.end_sessions(session_ids)
        end_sessions_in_calls(self, session_ids)

    # -- what handlers ask for

    def path(self, name):
        return os.path.join(self.folder, name)

    def file_path(self, key):
        return os.path.join(self.folder, 'uploads', key)

    def avatar_path(self, key):
        return os.path.join(self.folder, 'avatars', key)

    def about(self):
        return {'version': VERSION, 'build': self.assets.build, 'origin': self.origin, 'stun': self.stun.port,
                'now': self.clock.now()}

    def _greet(self, _):
        """The build that runs now, for a page that knew another boot: a quick restart may have cost it no link."""
        return [wire('notice', {'code': 'started', 'build': self.assets.build})]

    def forget_setup_code(self):
        self.setup_code = ''
        unlink(self.path('setup-code'))

    def is_trusted(self, peer):
        """Whether many people may come from an address: this machine, or a proxy."""
        return is_proxy(self, peer) or is_loopback(peer)

    # -- running requests

    def run(self, connection):
        """Give a complete request to the crew, or to a thread of its own where it may take long."""
        if self.is_stopping:
            return self._put_off(connection, try_later(503, 'stopping', 'The server is stopping.', 5))
        if connection.request.lane == 'crew':
            return self.crew.work(connection)
        if not self.run_long(lambda: serve_slowly(self, connection), connection):
            self._put_off(connection, busy())

    def _put_off(self, connection, refusal):
        request, connection.request = connection.request, None
        put_reply(connection, request, error_reply(refusal))
        self.lot.take(connection)

    def run_long(self, work, connection):
        """Run work on a thread that then owns the connection; returns whether there was a thread to be had."""
        most = FEWEST_THREADS if self.is_cramped else LONG_THREADS
        share = most if self.is_trusted(connection.peer) else LONG_PER_ADDRESS
        with self._long_lock:
            if sum(self._long.values()) >= most or self._long.get(connection.peer, 0) >= share:
                return False
            self._count_long(connection.peer, 1)
        try:
            self.server.start_thread(functools.partial(self._run_long, work), connection)
        except RuntimeError:                     # the system has no more threads
            with self._long_lock:
                self._count_long(connection.peer, -1)
            return False
        return True

    def _count_long(self, peer, step):
        self._long[peer] += step
        if not self._long[peer]:
            del self._long[peer]

    def finish_long(self, seconds):
        """Let what runs on threads of its own come to its end, for so long."""
        end = self.clock.steady() + seconds
        while self._long and self.clock.steady() < end:
            time.sleep(0.02)

    def _run_long(self, work, connection):
        self.core.leave()
        try:
            work()
            connection.socket.settimeout(0)
        except OSError:
            connection.state = 'gone'
        except Exception:                    # the edge of this thread
            connection.state = 'gone'
            report()
        finally:
            self.store.forget_reader()
            self.lot.take(connection)
            with self._long_lock:
                self._count_long(connection.peer, -1)

    def log(self, request, reply, seconds):
        """One line for a request; without its query, which may hold what people search for."""
        if self.log_line:
            self.log_line('%s %s %s %s %d %dB %.1fms user=%s' % (
                time.strftime('%Y-%m-%d %H:%M:%S'), request.address, request.method, request.shown_path, reply.status, reply.length, seconds * 1000,
                request.user_id if request.session else '-'))


@contextlib.contextmanager
def explained(app):
    """Say in one line why a data folder cannot be opened."""
    try:
        yield
    except Damaged as damage:
        raise Trouble('%s %s' % (damage, app.backups.advice()))
    except (OSError, sqlite3.OperationalError, Refusal) as error:
        raise Trouble('The data folder %s cannot be used (%s). Look at its disk, and who may write there.' % (app.folder, error))
    except sqlite3.DatabaseError as error:
        raise Trouble('The databases in %s are damaged (%s). %s' % (app.folder, error, app.backups.advice()))


def refuse_network_share(folder):
    """On a share of the network what SQLite has written may be lost, and two servers do not see each other's lock."""
    kind = file_system_of(folder)
    if kind in NETWORK_FILE_SYSTEMS:
        raise Trouble('The data folder %s is on a network share (%s), where databases break. Keep it on a disk of this machine, '
                      'or start with --force.' % (folder, kind))


def make_private_folder(folder):
    try:
        make_lasting_folder(folder)
    except OSError as error:
        raise Trouble('The data folder %s cannot be made (%s).' % (folder, error.strerror))
    if not os.access(folder, os.W_OK):
        raise Trouble('The data folder %s cannot be written to.' % folder)


def read_setup_code(path, random_bytes):
    """The code that makes the first account the owner's: shown in the terminal, and kept until then."""
    with contextlib.suppress(FileNotFoundError):
        with open(path, encoding='ascii') as file:
            code = file.read().strip()
        if code:
            return code
    letters = base64.b32encode(random_bytes(5)).decode('ascii')
    code = letters[:4] + '-' + letters[4:]
    save(path, (code + '\n').encode('ascii'))
    return code


def raise_descriptor_limit():
    """Ask for as many open files as allowed; returns how many connections that leaves room for."""
    if resource is None:
        return 400                           # what select() on Windows can watch, with room to spare
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 2 * CONNECTIONS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return CONNECTIONS if soft == resource.RLIM_INFINITY else max(FEWEST_CONNECTIONS, min(CONNECTIONS, soft - RESERVED_DESCRIPTORS))


# -- what is done now and then

M_ARENA_MAX, MOST_ARENAS = -8, 2     # glibc makes eight for each core, and each would keep what a password's hash needs


def c_library(name):
    """A function of the C library, or one that does nothing where there is none of that name."""
    library = ctypes.CDLL(None) if ctypes and sys.platform == 'linux' else None
    return getattr(library, name, lambda *arguments: 0)


def keep_memory_together():
    """Have threads share their memory: many of them would otherwise hold a lot that is free (mallopt(3))."""
    c_library('mallopt')(M_ARENA_MAX, MOST_ARENAS)


def give_memory_back(app):
    """Return to the system what a crowd has needed and left (malloc_trim(3))."""
    c_library('malloc_trim')(0)


def tell_systemd(state):
    """Tell the service manager how it stands, if there is one that asks (sd_notify(3))."""
    address = os.environ.get('NOTIFY_SOCKET', '')
    if address[:1] not in ('/', '@'):
        return
    with contextlib.suppress(OSError), contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sender:
        sender.connect('\0' + address[1:] if address[0] == '@' else address)
        sender.send(state.encode('ascii'))


def show_life(app):
    """Tell the service manager that the server is alive: that its writer writes."""
    if os.environ.get('WATCHDOG_USEC'):
        app.store.write(lambda change: None)
        tell_systemd('WATCHDOG=1')


FIRST_CHORES = 60                # seconds after the start: a server that never runs for long is swept as well
CHORES = (                       # every so many seconds: function(app)
    (1, lambda app: app.presence.tell_changes()),
    (1, sweep_calls),
    (5, lambda app: app.presence.sweep(app.store)),
    (5, end_statuses),
    (10, lambda app: catch_up_index(app, 50)),
    (10, lambda app: erase_departed(app, ERASING_SECONDS)),
    (10, show_life),
    (10, give_memory_back),
    (30, App.refresh_certificate),
    (60, lambda app: app.store.write(app.service.note)),
    (60, lambda app: app.store.write(app.news.note)),
    (60, lambda app: app.store.write(app.presence.note)),
    (60, lambda app: app.store.write(functools.partial(repair_accounts, app))),
    (60, lambda app: app.janitor.look()),
    (600, lambda app: app.backups.start_when_due()),
    (600, sweep_exports),
    (3600, lambda app: app.store.write(app.sessions.purge)),
    (3600, lambda app: app.store.write(lambda change: sweep_files(app, change))),
    (3600, lambda app: app.store.write(prune_events)),
    (3600, lambda app: app.store.write(prune_participants)),
    (3600, lambda app: app.store.write(functools.partial(sweep_expired, app))),
)


class Keeper(threading.Thread):
    """The thread that does the chores."""

    def __init__(self, app):
        threading.Thread.__init__(self, name='keeper', daemon=True)
        self.app, self.ending = app, threading.Event()
        self._opened = threading.Semaphore(0)

    def start(self):
        threading.Thread.start(self)
        self._opened.acquire()

    def run(self):
        open_reader(self.app.store, self._opened)
        due = [(self.app.clock.steady() + min(seconds, FIRST_CHORES), number)
               for number, (seconds, chore) in enumerate(CHORES)]
        while not self.ending.wait(max(0, min(due)[0] - self.app.clock.steady())):
            at, number = min(due)
            due.remove((at, number))
            due.append((self.app.clock.steady() + CHORES[number][0], number))
            try:
                CHORES[number][1](self.app)
            except Refusal as refusal:
                say('A chore could not be done: ' + refusal.words)
            except Exception:                # the edge of this thread: the next chore must come
                report()


class Running:
    """A server that runs: `url` is where, stop() ends it cleanly."""

    def __init__(self, app, server):
        self.app, self.server, self.keeper = app, server, Keeper(app)
        self.port, self.url = server.server_port, server.url
        self._thread = threading.Thread(target=server.serve_forever, args=(0.1,), name='accept', daemon=True)

    def start(self):
        self.app.lot.start()
        self.app.crew.start()
        self.keeper.start()
        self._thread.start()
        self._leave_address()

    def _leave_address(self):
        """Tell the commands of this machine where the server is, and the word that lets them in."""
        self.app.control_token = token(self.app.random_bytes)
        with contextlib.suppress(OSError):       # a full disk: the commands then find no server, and the folder locked
            save(self.app.path('control.json'), encode({'url': self.url, 'token': self.app.control_token}))

    def stop(self):
        """Take no more, answer what waits, finish what runs, fold the databases."""
        self.app.is_stopping = True
        unlink(self.app.path('control.json'))
        self.server.shutdown()
        self.server.server_close()
        self.keeper.ending.set()
        self.keeper.join(5)
        self.app.mdns.stop()
        self.app.previewer.stop()
        self.app.crew.stop()
        self.app.finish_long(2)
        self.app.lot.stop()
        self.app.stun.stop()
        self.app.close()


def start(app, host=None, port=None, unix=None, group=None):
    """Open an app and serve it, at a Unix socket if one is given; returns the Running server."""
    host, port = app.settings.host if host is None else host, app.settings.port if port is None else port
    keep_memory_together()
    threading.stack_size(512 * 1024)
    sys.setswitchinterval(0.0002)            # with the usual 5 ms one busy thread makes everybody wait
    try:
        server = UnixServer(app, unix, group) if unix else Server(app, host, port)
    except (OSError, LookupError) as error:
        place = unix or 'Port %d on %s' % (port, host)
        raise Trouble('%s cannot be used (%s). Is something else running there?' % (place, getattr(error, 'strerror', error)))
    try:
        app.open()
    except BaseException:
        server.server_close()
        raise
    app.server = server
    app.open_stun(host)
    app.open_mdns()
    running = Running(app, server)
    running.start()
    return running


# ---- 29. COMMANDS ----------------------------------------------------

COMMANDS = collections.OrderedDict()     # name: Command

Command = collections.namedtuple('Command', 'name help arguments run')


def argument(*names, **options):
    return names, options


def command(name, *arguments):
    """Declare a command; its docstring is its help."""
    def register(run):
        COMMANDS[name] = Command(name, inspect.getdoc(run), arguments, run)
        return run
    return register


DATA_FOLDER = os.path.join(HERE, 'data')
DATA = argument('--data', metavar='DIR', default=DATA_FOLDER, help='the folder that holds everything')
SETTINGS_FILE = argument('--settings', metavar='FILE', default=os.path.join(HERE, 'settings.json'),
                         help='the settings file')


SERVE_ARGUMENTS = (
    argument('--lan', action='store_true', help='serve every address of this machine, on port 6767'),
    argument('--host', help='the address to listen on; "*" is every address'),
    argument('--port', type=int, help='the TCP port; 0 takes any free one'),
    argument('--unix', metavar='PATH', help='listen on a Unix socket instead, for a proxy on this machine'),
    argument('--unix-group', metavar='GROUP', help='the group that may open the socket'), DATA, SETTINGS_FILE,
    argument('--plain-http', action='store_true', help='no TLS: for tests, or behind a proxy that has it'),
    argument('--force', action='store_true', help='keep the data on a network share all the same'),
    argument('--dev', action='store_true', help='start again when the script changes, reload pages when static/ does'),
    argument('--quiet', action='store_true', help='do not log requests'))


@command('serve', *SERVE_ARGUMENTS)
def serve(options):
    """Serve the chat (this is what happens without a command)."""
    serve_with(options, serving_settings(options))


def serve_with(options, settings):
    os.umask(0o077)
    if options.unix and not hasattr(socket, 'AF_UNIX'):
        raise Trouble('There are no Unix sockets here.')
    if not options.force:
        refuse_network_share(options.data)
    app = App(options.data, settings, plain=options.plain_http or bool(options.unix),
              log=None if options.quiet else log_line)
    stopping = stop_on_signals()
    running = start(app, unix=options.unix, group=options.unix_group)
    keep_good_settings(options.settings, app.path('settings.last.json'))
    log_line(greeting(app, running))
    app.ask_to_stop = stopping.set
    tell_systemd('READY=1')
    changed = wait_for_end(app, stopping, options.dev)
    tell_systemd('STOPPING=1')
    running.stop()
    log_line('Stopped. Everything is on disk; the stick can be removed.')
    if changed:
        os.execv(sys.executable, [sys.executable] + sys.argv)


def serving_settings(options):
    """The settings with what the command line says on top."""
    settings = read_settings(options.settings, os.path.join(options.data, 'settings.last.json'))
    if options.lan:
        settings.host, settings.port = '*', 6767
    try:
        settings.host = host_address(options.host) if options.host else settings.host
        settings.port = settings.port if options.port is None else Whole(0, 65535).read(options.port)
    except ValueError as error:
        raise Trouble('The address or the port to listen on %s.' % error)
    return settings


def log_line(text):
    """Write to the terminal, or to where it is sent; a disk that is full there must not stop the chat."""
    with contextlib.suppress(OSError, ValueError):
        print(text, flush=True)


def stop_on_signals():
    """Returns an event that is set by the first signal to end; a second one ends at once."""
    stopping = threading.Event()

    def on_signal(number, frame):
        if stopping.is_set():
            os._exit(1)
        stopping.set()
    for name in ('SIGINT', 'SIGTERM', 'SIGBREAK'):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), on_signal)
    return stopping


def wait_for_end(app, stopping, dev):
    """Wait for a signal; in development also for a changed script, which it returns True for."""
    script, page = stamps(os.path.abspath(__file__)), stamps(os.path.join(HERE, 'static'))
    while not stopping.wait(0.5 if dev else 1):      # a wait without end cannot be interrupted on Windows
        if not dev:
            continue
        if stamps(os.path.abspath(__file__)) != script:
            return True
        if stamps(os.path.join(HERE, 'static')) != page:
            page = stamps(os.path.join(HERE, 'static'))
            app.assets = Assets(os.path.join(HERE, 'static'))
            app.news.pass_on('notice', {'code': 'reload'}, EVERYBODY)
    return False


def stamps(path):
    """When a file, or each in a folder, was last changed: differs after any change."""
    if not os.path.isdir(path):
        return os.stat(path).st_mtime
    paths = [os.path.join(parent, name) for parent, _, names in os.walk(path) for name in names]
    return {path: os.stat(path).st_mtime for path in paths}


def greeting(app, running):
    """What a person needs to know when the server has started."""
    scheme = 'https' if app.context else 'http'
    addresses = [running.url]
    if running.port:
        addresses = ['%s://%s:%d' % (scheme, host, running.port) for host in shown_hosts(app)]
    lines = ['MiniMost %s serves %s.' % (VERSION, app.settings.name), ''] + ['  ' + address for address in addresses]
    if app.settings.host == '*' and addresses[1:] and sys.stdout.isatty():
        lines += ['', qr_text(addresses[0].encode(), sys.stdout.encoding)]
    if app.settings.host != '*' and running.port:
        lines.append('  Only those who reach this address can join; --lan lets the whole network in.')
    lines += ['', '  Data         ' + os.path.abspath(app.folder)]
    if app.stun.port:
        lines.append('  Calls        ask for their address at UDP port %d' % app.stun.port)
    if app.context:
        lines.append('  Certificate  SHA-256 ' + app.certificates.fingerprint())
        if app.certificates.ours:
            lines.append('  ca.pem       SHA-256 ' + app.certificates.authority_fingerprint())
            lines.append('  Trust        %s/trust says how devices come to trust it' % addresses[0].rstrip('/'))
    if app.setup_code:
        lines.append('  Set-up code  %s  (makes the first account the owner\'s)' % app.setup_code)
    return '\n'.join(lines + ['  Warning      ' + problem for problem in app.settings.problems] + [''])


@command('backup', argument('file', help='the zip to write, or to check'),
         argument('--verify', action='store_true', help='check a backup instead of making one'), DATA)
def back_up(options):
    """Write everything to one zip, while the chat runs or not."""
    if options.verify:
        verify_backup(options.file)
        return print('%s is whole.' % options.file)
    if os.path.exists(options.file):
        raise Trouble('%s is there already.' % options.file)
    write_backup(options.data, options.file, Clock().now())
    print('%s holds everything, secrets included: keep it safe.' % options.file)


@command('export', argument('channel', help='its name'), argument('file', help='the file to write: .html or .json'),
         argument('--from', dest='begin', metavar='DAY', help='the first day, as in 2026-01-31'),
         argument('--to', dest='end', metavar='DAY', help='the last day'), DATA, SETTINGS_FILE)
def export_by_hand(options):
    """Write a channel to one file, while the chat runs or not: a page that holds its pictures and a search, or JSON."""
    form = os.path.splitext(options.file)[1][1:]
    if form not in EXPORT_FORMS:
        raise Trouble('The name of the file must end in .html or .json.')
    require_chat(options.data)
    app = App(options.data, read_settings(options.settings, os.path.join(options.data, 'settings.last.json')), plain=True)
    try:
        db = app.store.reader()
        channel = db.execute('SELECT * FROM channels WHERE name_key = ?', (options.channel.lstrip('#').casefold(),)).fetchone()
        if channel is None:
            raise Trouble('There is no channel named %s.' % options.channel)
        export = Export(app, db, channel, day_or('from', options.begin, 0, 0), day_or('to', options.end, 1, LARGEST))
        write_export(EXPORT_FORMS[form](export), options.file)
    except Refusal as refusal:
        raise Trouble(refusal.words)
    except (OSError, sqlite3.Error) as error:
        raise Trouble('The channel cannot be written to %s (%s).' % (options.file, error))
    print('%s holds #%s.' % (options.file, channel['name']))


@command('restore', argument('file', help='the zip that the command backup wrote'), DATA)
def restore(options):
    """Make an empty data folder of a backup."""
    os.umask(0o077)
    restore_backup(options.file, options.data)
    print('%s is restored. Start the chat as always.' % options.data)


@command('systemd-unit', argument('--user', default='minimost', help='the user that the chat runs as'), DATA,
         argument('--options', default='--lan', help='what follows the command serve'))
def print_systemd_unit(options):
    """Print a systemd unit for this copy of the script and its folder."""
    command = [sys.executable, os.path.abspath(__file__), 'serve'] + options.options.split()
    folder = os.path.abspath(options.data)
    print(SYSTEMD_UNIT.format(command=' '.join(map(systemd_word, command + ['--quiet', '--data', folder])),
                              user=options.user, folder=systemd_word(folder), name=VERSION), end='')


def systemd_word(word):
    """A word as ExecStart= reads it (systemd.service(5), command lines)."""
    word = word.replace('%', '%%')
    return word if re.fullmatch('[A-Za-z0-9_./:%=,*-]+', word) else '"%s"' % re.sub(r'(["\\$])', r'\\\1', word)


SYSTEMD_UNIT = """\
# MiniMost {name}, made by `minimost.py systemd-unit`. Save as /etc/systemd/system/minimost.service, then
#   useradd --system {user}; install -d -o {user} -m 700 {folder}
#   systemctl daemon-reload; systemctl enable --now minimost
[Unit]
Description=MiniMost team chat
After=network.target

[Service]
Type=notify
ExecStart={command}
User={user}
Restart=on-failure
WatchdogSec=60
TimeoutStopSec=15
LimitNOFILE=8192
UMask=0077
RuntimeDirectory=minimost
RuntimeDirectoryMode=0750
ReadWritePaths={folder}
ProtectSystem=strict
ProtectHome=read-only
NoNewPrivileges=yes
CapabilityBoundingSet=
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


@command('routes')
def print_routes(options):
    """Print every route with who may use it: the API chapter of the README."""
    print(routes_table())


def routes_table():
    rows = ['| request | who | fields | what it does |', '|---|---|---|---|']
    for one in ROUTES:
        fields = ', '.join(name + ('' if default is REQUIRED else '?') for name, (_, _, default) in one.fields.items())
        who = 'everybody' if one.public else 'signed in' if one.role == 'guest' else one.role + ' and up'
        rows.append('| `%s %s` | %s | %s | %s |' % (one.method, one.pattern, who, fields, inspect.getdoc(one.handler)))
    return '\n'.join(rows)


@command('settings', argument('--json', action='store_true', help='as a settings.json with every default'))
def print_settings(options):
    """Print every setting with its default and its meaning."""
    print(settings_file() if options.json else settings_table() + '\n', end='')


def settings_table():
    rows = ['| setting | default | meaning |', '|---|---|---|']
    rows += ['| `%s` | `%s` | %s |' % (one.name, json.dumps(one.default), one.help) for one in SETTINGS]
    return '\n'.join(rows)


def commands_table():
    rows = ['| command | what it does |', '|---|---|']
    rows += ['| `%s` | %s |' % (one.name, one.help) for one in COMMANDS.values()]
    return '\n'.join(rows)


# ---- 30. CONTROL -----------------------------------------------------
#
# What an operator does from the command line. Only one process may write, so a command has the running server do
# its work, whom it finds by data/control.json; where none runs, it takes the folder itself.

CONTROLS = {}                    # verb: Control
CONTROL_SECONDS, CLEANING_SECONDS, STOPPING_SECONDS = 60, 7200, 30
SYSTEM_NAME = 'minimost'

Control = collections.namedtuple('Control', 'fields run seconds')


def control(verb, seconds=CONTROL_SECONDS):
    """Declare what a command can have done, in so many seconds: function(app, **fields), which returns the text to print."""
    def register(run):
        CONTROLS[verb] = Control(declared_fields(run, 1), run, seconds)
        return run
    return register


def carry_out_here(app, verb, values):
    one = CONTROLS[verb]
    return one.run(app, **read_fields(one.fields, values))


@loader('verb')
def load_verb(request, text):
    """Only from this machine, and only with the word that stands in control.json; to all others it is not there."""
    given, expected = request.bearer.encode('utf-8'), request.app.control_token.encode('utf-8')
    is_near = is_loopback(request.peer) or request.peer in (request.app.settings.host, UNIX_PEER)
    if request.is_forwarded or not is_near or not expected or not hmac.compare_digest(given, expected) or text not in CONTROLS:
        raise not_found()
    return text


@route('POST', '/control/<verb>', public=True, limit='change', lane='thread')
def run_control(request, verb, values: SmallObject(MOST_JSON)):
    """What the commands of this machine, and nobody else, have the running server do."""
    return Reply(200, {'said': carry_out_here(request.app, verb, values)})


def carry_out(options, verb, **values):
    """Have the running server do something, or do it here; prints what came of it."""
    os.umask(0o077)
    try:
        said = ask_server(options.data, verb, values)
        print(do_here(options, verb, values) if said is None else said)
    except Refusal as refusal:
        raise Trouble(refusal.words)


def ask_server(folder, verb, values):
    """What the running server says, or None where there is none: a file left by a crash leads nowhere."""
    try:
        found = read_json_object(os.path.join(folder, 'control.json'))
        connection = connect_to(urllib.parse.urlsplit(found['url']))
        connection.connect()
        status, answer = ask_by(connection, found['token'], verb, values)
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        return None
    if status != 200:
        raise Trouble(answer['error'])
    return answer['said']


def ask_by(connection, bearer, verb, values):
    """The status and the value of the server's answer; one that takes too long does not mean that there is no server."""
    seconds = CONTROLS[verb].seconds
    connection.sock.settimeout(seconds)
    connection.request('POST', '/control/' + verb, encode({'values': values}), {
        'Content-Type': 'application/json', 'Authorization': 'Bearer ' + bearer})
    try:
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read().decode('utf-8'))
    except socket.timeout:
        raise Trouble('The server has been asked, and has not said within %d seconds that it is done. It may be still at it.' % seconds)


class UnixConnection(http.client.HTTPConnection):
    """A connection by a Unix socket."""

    def __init__(self, path):
        http.client.HTTPConnection.__init__(self, 'localhost', timeout=CONTROL_SECONDS)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def connect_to(address):
    """A connection to this machine's own server. Its certificate is not looked at: the token is good for this run alone."""
    if address.scheme == 'unix':
        return UnixConnection(address.path)
    if address.scheme == 'http':
        return http.client.HTTPConnection(address.hostname, address.port, timeout=CONTROL_SECONDS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(address.hostname, address.port, timeout=CONTROL_SECONDS, context=context)


def do_here(options, verb, values):
    if verb != 'users-add':
        require_chat(options.data)
    app = App(options.data, read_settings(options.settings, os.path.join(options.data, 'settings.last.json')), plain=True)
    app.open()
    try:
        return carry_out_here(app, verb, values)
    finally:
        app.close()


def base_of_links(app, given):
    """Where people reach the chat: as the operator says, else its first address."""
    if given:
        return given.rstrip('/')
    port = app.server.server_port if app.server else app.settings.port
    return '%s://%s:%d' % ('https' if app.context or not app.server else 'http', shown_hosts(app)[0], port)


def find_by_name(db, name):
    account = find_account(db, name)
    if account is None:
        raise Refusal(404, 'not_found', 'There is nobody named %s.' % name)
    return find_profile(db, account['id'])


# -- people

BaseUrl = Maybe(Match(r'https?://[^\s/?#]+/?', 'an address such as https://192.168.1.5:6767'))
BASE_URL = argument('--base-url', metavar='URL', help='where people reach the chat, for the links that are printed')


@control('users-list')
def list_users(app):
    rows = account_rows(app.store.reader())
    lines = ['%-6s %-24s %-8s %-8s %s' % ('id', 'name', 'role', 'state', 'shown as')]
    return '\n'.join(lines + ['%-6d %-24s %-8s %-8s %s' % (
        row['id'], row['username'], row['role'], account_state(row), row['display_name']) for row in rows])


def account_state(row):
    return 'active' if row['active'] else 'closed' if row['approved'] else WAITING


@control('users-add')
def add_user(app, name: Username, role: OneOf(*PEOPLE_ROLES) = 'member', base: BaseUrl = None):
    def add(change):
        user_id = add_account(app, change, name, '', role)
        return make_reset(app, change, find_profile(change, user_id), RESET_MINUTES)
    text = app.store.write(add)
    if role == 'owner':
        app.forget_setup_code()
    app.audit.note('account-add', src='console', target=name, role=role)
    return '%s is %s. The password is set with this link, once, within %d minutes:\n%s' % (
        name, role, RESET_MINUTES, reset_url(base_of_links(app, base), text))


@control('users-change')
def change_user(app, name: Username, role: OneOf(*PEOPLE_ROLES) = None, active: Truth() = None, approved: Truth() = None):
    def apply(change):
        return change_profile(app, change, find_by_name(change, name)['id'], [
            (appoint, role), (approve, approved), (activate, active)])
    user = app.store.write(apply)
    app.audit.note('account-change', src='console', target=user['username'], role=role, active=active, approved=approved)
    return '%s is %s and %s.' % (user['username'], user['role'], account_state(user))


USER_ACTIONS = {                 # what `users` does to one of them
    'role': lambda options: {'role': options.role},
    'approve': lambda options: {'approved': True},
    'close': lambda options: {'active': False},
    'open': lambda options: {'active': True},
}


@command('users', argument('action', nargs='?', default='list', choices=['list', 'add'] + list(USER_ACTIONS)),
         argument('name', nargs='?'), argument('role', nargs='?', choices=PEOPLE_ROLES), DATA, SETTINGS_FILE, BASE_URL)
def users(options):
    """List the accounts, add one, give it a role, approve it, close it, or open it again."""
    if options.action == 'list':
        return carry_out(options, 'users-list')
    if options.name is None or options.action == 'role' and options.role is None:
        raise WrongUsage('usage: minimost.py users %s NAME%s' % (options.action, ' ROLE' if options.action == 'role' else ''))
    if options.action == 'add':
        return carry_out(options, 'users-add', name=options.name, role=options.role or 'member', base=options.base_url)
    carry_out(options, 'users-change', name=options.name, **USER_ACTIONS[options.action](options))


@control('reset-password')
def reset_by_name(app, name: Username, minutes: Whole(1, 100000) = RESET_MINUTES, base: BaseUrl = None):
    text = app.store.write(lambda change: make_reset(app, change, find_by_name(change, name), minutes))
    app.audit.note('reset-make', src='console', target=name)
    return '%s\nworks once, within %d minutes.' % (reset_url(base_of_links(app, base), text), minutes)


@command('reset-password', argument('name', metavar='NAME'),
         argument('--expires', type=int, metavar='MINUTES', default=RESET_MINUTES, help='how long the link works'),
         BASE_URL, DATA, SETTINGS_FILE)
def reset_password(options):
    """Print a link with which somebody sets a new password."""
    carry_out(options, 'reset-password', name=options.name, minutes=options.expires, base=options.base_url)


# -- invitations and messages

def find_public_channel(db, name):
    row = db.execute("SELECT * FROM channels WHERE kind = 'public' AND name_key = ?", (name.lstrip('#').casefold(),)).fetchone()
    if row is None:
        raise Refusal(404, 'not_found', 'There is no public channel named %s.' % name)
    return row


@control('invite')
def invite_by_hand(app, uses: Whole(1, 10000) = 1, hours: Whole(1, LONGEST_INVITE) = INVITE_HOURS,
                   role: OneOf(*INVITED_ROLES) = 'member', channel: Maybe(Line(1, 60)) = None, base: BaseUrl = None):
    def make(change):
        channel_id = channel and find_public_channel(change, channel)['id']
        return make_invite(app, change, uses, hours, role, channel_id)
    invite_id, code = app.store.write(make)
    app.audit.note('invite-make', src='console', invite=invite_id, role=role, uses=uses)
    return '%s\n%s' % (code, invite_url(base_of_links(app, base), code))


@command('invite', argument('--uses', type=int, default=1, help='how many people can sign up with it'),
         argument('--hours', type=int, default=INVITE_HOURS, help='how long it works'),
         argument('--role', choices=INVITED_ROLES, default='member', help='what those who come with it are'),
         argument('--channel', metavar='NAME', help='a public channel that they are led to'), BASE_URL, DATA, SETTINGS_FILE)
def print_invite(options):
    """Print a code with which people sign up, and a link that holds it."""
    carry_out(options, 'invite', uses=options.uses, hours=options.hours, role=options.role, channel=options.channel,
              base=options.base_url)


@control('send')
def send_by_hand(app, channel: Line(1, 60), text: Text(1, MOST_TEXT)):
    def post(change):
        row = find_public_channel(change, channel)
        if row['archived']:
            raise Refusal(403, 'archived', 'This channel is archived. It can only be read.')
        require_words(text, ())
        return add_message(app, change, row, system_user(change), text, True)
    app.store.write(post)
    app.audit.note('send', src='console', channel=channel)
    return 'Sent.'


def system_user(change):
    """The id of the bot that speaks for the server; made when it is first needed."""
    account = find_account(change, SYSTEM_NAME)
    if account:
        return account['id']
    user_id = change.insert('accounts', username=SYSTEM_NAME, username_key=SYSTEM_NAME, password='', arrives_as='bot',
                            created_at=change.now)
    add_profile(change, user_id, SYSTEM_NAME, 'bot')
    return user_id


@command('send', argument('channel', metavar='CHANNEL'), argument('text', metavar='TEXT', nargs='?'), DATA, SETTINGS_FILE)
def send(options):
    """Post a text, or what comes on standard input, to a public channel in the name of the server."""
    text = sys.stdin.read() if options.text is None else options.text
    carry_out(options, 'send', channel=options.channel, text=text.replace('\r\n', '\n').strip('\n'))


# -- making room, stopping

@control('clean', CLEANING_SECONDS)
def clean_by_hand(app, dry_run: Truth(), sure: Truth()):
    done = app.janitor.clean(dry_run=dry_run, sure=sure)
    note_cleaning(app, done)
    what = '%d files (%.1f MB) and %d messages' % (done['files'], done['bytes'] / 10 ** 6, done['messages'])
    if done['waiting'] and not dry_run:
        return ('Nothing is deleted yet: the clock jumped. %s wait for a day of service; '
                '--sure says that the clock is right.' % what)
    return '%s %s.' % (what, 'would be deleted' if dry_run else 'are deleted')


@command('clean', argument('--dry-run', action='store_true', help='only say what would be deleted'),
         argument('--sure', action='store_true', help='the clock is right, even if it jumped'), DATA, SETTINGS_FILE)
def clean_now(options):
    """Delete what the settings no longer keep; by default that is nothing."""
    carry_out(options, 'clean', dry_run=options.dry_run, sure=options.sure)


@control('stop')
def stop_by_hand(app):
    app.ask_to_stop()
    return ''


@command('stop', DATA)
def stop(options):
    """Stop the chat that runs on a data folder, so that its stick can be removed."""
    if ask_server(options.data, 'stop', {}) is None:
        raise Trouble('No chat is running on %s.' % options.data)
    for _ in range(STOPPING_SECONDS * 10):
        with contextlib.suppress(Trouble):
            return FolderLock(options.data).release() or print('Stopped. It is safe to remove the stick.')
        time.sleep(0.1)
    raise Trouble('The chat has not stopped within %d seconds. Look at its terminal.' % STOPPING_SECONDS)


# ---- 31. DOCTOR ------------------------------------------------------
#
# Looks at all that has been seen to go wrong, and says what to do. It only reads. Where a server runs, the server looks
# at itself, for nobody else knows its ports, its certificate in use and how its databases are kept.

CHECKS = []                      # Check: name, and look(app, db), which returns a Finding
STUN_SECONDS = 0.5                 # that an answer may take
OLD_BACKUP = 8 * DAY             # seconds
ENDS_SOON = 14 * DAY             # seconds before the end of a certificate
LATEST = EARLIEST + 20 * 365 * DAY   # a clock that tells more is wrong, or this MiniMost is very old
FEW_CONNECTIONS = 400
PASSING_FILE_SYSTEMS = ('tmpfs', 'ramfs', 'rootfs')
PLAIN_FILE_SYSTEMS = ('vfat', 'msdos', 'exfat', 'fuseblk')   # they know no modes, and break more easily
LASTING_DATABASES = [row for row in DATABASES if row[2] == 'FULL']
SECRETS = ('secret.key', 'ca-key.pem', 'key.pem', 'auth.db', 'users/messages.db', 'control.json', 'audit.log')

Check = collections.namedtuple('Check', 'name look')
Finding = collections.namedtuple('Finding', 'state sentence remedy')


def check(name):
    """Declare a check: function(app, db) that returns a Finding. `db` is None where there is no database to read."""
    def register(look):
        CHECKS.append(Check(name, look))
        return look
    return register


def fine(sentence, advice=''):
    return Finding('ok', sentence, advice)


def warn(sentence, remedy):
    return Finding('warn', sentence, remedy)


def bad(sentence, remedy):
    return Finding('bad', sentence, remedy)


def examine(app, db):
    """What each check finds: [{check, state, sentence, remedy}]."""
    return [dict(find(one, app, db)._asdict(), check=one.name) for one in CHECKS]


def find(one, app, db):
    try:
        return one.look(app, db)
    except (OSError, ValueError, sqlite3.Error, Refusal) as error:
        return bad('This could not be looked at (%s).' % getattr(error, 'words', error),
                   'Look at the disk, and at the terminal of the server.')


@contextlib.contextmanager
def still_database(folder):
    """A connection to the chat's database in a folder that nobody serves; None where there is none, or not of this version.

    What a crash left beside it is not folded in, for that would be to write.
    """
    if any(look_at_database(folder, schema, file) for schema, file, _ in LASTING_DATABASES):
        yield None
        return
    with contextlib.closing(sqlite3.connect(':memory:', uri=True)) as db:
        db.row_factory = sqlite3.Row
        db.execute('ATTACH ? AS chat', (still_address(folder, dict(row[:2] for row in DATABASES)['chat']),))
        yield db


def still_address(folder, file):
    path = os.path.abspath(os.path.join(folder, file)).replace(os.sep, '/').lstrip('/')
    return 'file:///%s?immutable=1' % urllib.parse.quote(path, safe='/:')


def look_at_database(folder, schema, file):
    """What is to be said of a database that nobody uses; None when it is ready to be read."""
    path = os.path.join(folder, file)
    if os.path.exists(path + '-wal') and os.path.getsize(path + '-wal'):
        return fine('A crash left %s open; the next start puts it in order.' % file)
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        return bad('%s is missing or empty.' % file, '')
    try:
        with contextlib.closing(sqlite3.connect(still_address(folder, file), uri=True)) as db:
            db.execute('SELECT count(*) FROM sqlite_master').fetchone()
            return judge_version(file, db.execute('PRAGMA user_version').fetchone()[0], len(MIGRATIONS[schema]))
    except sqlite3.DatabaseError as error:
        return bad('%s cannot be read (%s).' % (file, error), '')


def judge_version(file, version, newest):
    if version > newest:
        return bad('%s was written by a newer MiniMost (version %d, this one knows %d).' % (file, version, newest), '')
    if version < newest:
        return fine('%s is of an older MiniMost; the next start brings it up to date and keeps a copy.' % file)
    return None


# -- the machine

@check('server')
def check_server(app, db):
    """Whether a server runs on the data folder, and since when."""
    if app.server:
        minutes = app.service.uptime() // 60
        return fine('MiniMost %s has served %s for %d h %d min.' % (VERSION, app.server.url, minutes // 60, minutes % 60))
    if os.path.exists(app.path('control.json')) and not os.access(app.path('control.json'), os.R_OK):
        return warn('A server may run on %s, but not for this user.' % app.folder, 'Ask as the user whom the folder belongs to.')
    if os.path.exists(app.path('control.json')):
        return warn('A server was on %s and does not answer.' % app.folder, 'If it runs, look at its terminal; else start it.')
    return fine('No server runs on %s.' % app.folder)


@check('python')
def check_python(app, db):
    """Which Python it is, and whether it keeps passwords in the best way."""
    sentence = 'Python %s on %s, %s.' % (sys.version.split()[0], sys.platform, ssl.OPENSSL_VERSION)
    if hasattr(hashlib, 'scrypt'):
        return fine(sentence)
    return warn(sentence + ' It has no scrypt: passwords are kept under PBKDF2.',
                'Use a Python that is built with OpenSSL 1.1 or later.')


@check('sqlite')
def check_sqlite(app, db):
    """Which SQLite it is, and whether it can index what is written."""
    version = 'SQLite ' + sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        return bad(version + ' is too old.', 'Use a Python with SQLite 3.22 or later.')
    with contextlib.closing(sqlite3.connect(':memory:')) as probe:
        if succeeds(probe, 'CREATE VIRTUAL TABLE probe USING fts5 (text)'):
            return fine(version + ' with FTS5.')
    return warn(version + ' has no FTS5: searching reads every message.',
                'Use a Python whose SQLite has FTS5, as that of python.org.')


@check('clock')
def check_clock(app, db):
    """Whether the year can be true, and whether the clock has jumped."""
    second = app.clock.now() / 1000
    sentence = 'The clock says %s.' % time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(second))
    if not EARLIEST <= second <= LATEST:
        return bad(sentence, 'Set the clock of this machine: messages bear its time, and certificates end by it.')
    if app.server and clock_is_doubtful(app):
        return warn(sentence + ' It has jumped; nothing is deleted for a day of service.',
                    'If it is right now, say so: python3 minimost.py clean --sure')
    return fine(sentence)


@check('connections')
def check_connections(app, db):
    """How many connections the system allows."""
    sentence = 'Room for %d connections at once.' % app.most_connections
    if app.most_connections >= FEW_CONNECTIONS:
        return fine(sentence)
    return warn(sentence, 'Allow more open files: "ulimit -n 8192" before the start, or LimitNOFILE= of the service.')


# -- the data

@check('folder')
def check_folder(app, db):
    """Whether the data folder can be written to, and by nobody else."""
    if not os.path.exists(app.folder):
        return fine('%s is not there yet; the first start makes it.' % app.folder)
    if not os.access(app.folder, os.W_OK):
        return bad('%s cannot be written to.' % app.folder,
                   'Start as the user whom it belongs to, or from a medium that can be written.')
    if is_loose(app.folder):
        loose = [name for name in SECRETS if is_loose(app.path(name))]
        return warn('Other users of this machine can look into %s.' % ', '.join([app.folder] + loose),
                    'chmod -R go-rwx %s' % app.folder)
    return fine('%s can be written to, and by nobody else.' % app.folder)


def is_loose(path):
    """Whether others may look into a file; on Windows the modes say nothing."""
    return os.name != 'nt' and os.path.exists(path) and os.stat(path).st_mode & 0o077 != 0


@check('medium')
def check_medium(app, db):
    """What kind of disk the data is on."""
    kind = file_system_of(app.folder)
    if kind in NETWORK_FILE_SYSTEMS:
        return bad('The data is on a network share (%s), where databases break.' % kind, 'Keep it on a disk of this machine.')
    if kind in PASSING_FILE_SYSTEMS:
        return warn('The data is in memory (%s) and gone when the machine is off.' % kind, 'Keep it on a disk: --data FOLDER.')
    if kind in PLAIN_FILE_SYSTEMS:
        return warn('The data is on %s, which keeps no file from other users of this machine.' % kind,
                    'For a stick that stays in use, ext4 or NTFS is better. Stop the chat before you pull it.')
    return fine('The data is on %s.' % (kind or 'a file system that cannot be told'))


@check('space')
def check_space(app, db):
    """How much room there is, for how long, and what is near its cap."""
    disk = shutil.disk_usage(first_folder_there(app.folder))
    spare, found = spare_bytes(disk), storage(app, db) if db else {'warnings': [], 'days_left': None}
    sentence = '%.1f GB of %.1f GB are free.' % (disk.free / 10 ** 9, disk.total / 10 ** 9)
    if found['days_left'] is not None:
        sentence += ' At the pace of the last month that is enough for about %d days.' % found['days_left']
    remedy = 'Make room, or say in the settings what may be deleted.'
    if disk.free <= spare:
        return bad(sentence + ' Uploads are refused.', remedy)
    return warn(' '.join([sentence] + found['warnings']), remedy) if found['warnings'] else fine(sentence)


def first_folder_there(folder):
    """The folder, or the nearest above it that exists."""
    folder = os.path.abspath(folder)
    return folder if os.path.isdir(folder) else first_folder_there(os.path.dirname(folder))


@check('databases')
def check_databases(app, db):
    """Whether the databases can be read and, while the chat runs, how they are kept safe from a power cut."""
    if app.server:
        return judge_durability(app.store.write(durability))
    if not any(os.path.exists(app.path(file)) for _, file, _ in DATABASES):
        return fine('There are no databases yet; the first start makes them.')
    found = [one for one in (look_at_database(app.folder, schema, file) for schema, file, _ in LASTING_DATABASES) if one]
    sentence = ' '.join(one.sentence for one in found)
    if any(one.state == 'bad' for one in found):
        return bad(sentence, app.backups.advice())
    return fine(sentence or 'The databases can be read.')


def durability(change):
    """How the writing connection keeps each database: [(file, wanted, journal_mode, synchronous)]."""
    return [(file, wanted) + tuple(change.execute('PRAGMA %s.%s' % (schema, name)).fetchone()[0]
                                   for name in ('journal_mode', 'synchronous')) for schema, file, wanted in DATABASES]


def judge_durability(found):
    names = {0: 'OFF', 1: 'NORMAL', 2: 'FULL', 3: 'EXTRA'}
    sentence = ', '.join('%s %s/%s' % (file, journal, names[level]) for file, _, journal, level in found) + '.'
    if any(wanted == 'FULL' and level < 2 for _, wanted, _, level in found):
        return bad(sentence + ' A power cut can lose messages.', 'Use another Python: its SQLite does not do as it is told.')
    if any(journal != 'wal' for _, _, journal, _ in found):
        return warn(sentence + ' This file system cannot write ahead: safe, but slow.', 'Keep the data on ext4, NTFS or APFS.')
    return fine(sentence)


@check('backup')
def check_backup(app, db):
    """How old the newest backup is, and where."""
    newest = app.backups.newest()
    advice = 'Name a folder on another disk in the setting backup_dir, or: python3 minimost.py backup FILE'
    if app.backups.problem:
        return bad(app.backups.problem, 'See that the backup folder can be written to and has room.')
    if not newest:
        return warn('There is no backup in %s.' % os.path.abspath(app.backups.folder), advice)
    age = app.clock.now() / 1000 - os.path.getmtime(newest)
    sentence = 'The newest backup is %s, %d days old.' % (newest, age // DAY)
    if age > OLD_BACKUP:
        return warn(sentence, advice)
    same = os.stat(newest).st_dev == os.stat(app.folder).st_dev
    return fine(sentence, 'It is on the same disk as the data: copy it to another one.' if same else '')


@check('audit log')
def check_audit(app, db):
    """Whether the audit log can be written."""
    path = app.audit.path
    if os.access(path if os.path.exists(path) else first_folder_there(app.folder), os.W_OK):
        return fine('audit.log can be written.')
    return bad('audit.log cannot be written.', 'Give it to the user that the chat runs as: %s' % path)


@check('settings')
def check_settings(app, db):
    """Whether every setting was understood."""
    if app.settings.problems:
        return warn(' '.join(app.settings.problems), 'Mend settings.json and start again; "settings" prints what there is.')
    return fine('All settings are understood.')


@check('owner')
def check_owner(app, db):
    """Whether somebody owns the place, or the set-up code is still open."""
    if db is None:
        return fine('There is no chat yet, or one that only a start can read.')
    if not has_owner(db):
        return warn('The place has no owner yet: the set-up code is open.',
                    'Make the first account now, on this machine or with the code that is in %s.' % app.path('setup-code'))
    return fine('The place has an owner. Registration is "%s".' % app.settings.registration)


# -- the network

@check('port')
def check_port(app, db):
    """Where the chat listens, or whether its port is free."""
    host, port = app.settings.host, app.settings.port
    if app.server:
        everywhere = host == '*' and app.server.server_port
        return fine('The chat listens at %s%s.' % (app.server.url, ' and every other address' if everywhere else ''))
    if can_bind(socket.SOCK_STREAM, host, port):
        return fine('TCP port %d is free.' % port)
    return bad('TCP port %d on %s cannot be used.' % (port, host), 'Stop what uses it, or choose another one with --port.')


def can_bind(kind, host, port):
    family, host = listening_family(host)
    with socket.socket(family, kind) as probe:
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != '::')
        if kind == socket.SOCK_STREAM and os.name != 'nt':
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


@check('name')
def check_name(app, db):
    """Whether the network finds the server by the name that the setting mdns_name gives."""
    label = app.settings.mdns_name
    if label is None:
        return fine('The setting mdns_name gives no name; people use the addresses.')
    if app.server is None or not app.server.server_port or leads_home(app.settings.host):
        return fine('%s.local is answered for while the chat serves the network.' % label)
    if app.mdns.host is None:
        return warn('The server does not answer to %s.local.' % label,
                    'People can use the addresses. Or stop what does not share UDP port %d.' % MDNS_PORT)
    if app.mdns.host != label + '.local':
        return warn('Another machine is %s.local; this server answers to %s.' % (label, app.mdns.host),
                    'Pass that name on, or choose another one with the setting mdns_name.')
    return fine('The network finds the server as %s.' % app.mdns.host)


@check('calls')
def check_calls(app, db):
    """Whether every address of this machine answers the question that calls begin with, over UDP."""
    port, remedy = app.settings.stun_port, 'Stop what uses it, or choose another one with the setting stun_port.'
    if port is None:
        return fine('Calls have no STUN server, as the setting stun_port says; without a router some do not connect.')
    if app.server is None:
        free = can_bind(socket.SOCK_DGRAM, app.settings.host, port)
        return fine('UDP port %d is free.' % port) if free else warn('UDP port %d cannot be used for calls.' % port, remedy)
    if app.stun.port is None:
        return warn('UDP port %d cannot be used for calls.' % port, remedy)
    times = [(host, stun_seconds(app, host)) for host in app.stun.hosts()]
    silent = [host for host, seconds in times if seconds is None]
    if silent:
        return bad('UDP port %d does not answer at %s.' % (app.stun.port, ', '.join(silent)),
                   'Let UDP through the firewall of this machine.')
    answers = ', '.join('%s in %.1f ms' % (host, seconds * 1000) for host, seconds in times)
    return fine('UDP port %d answers at %s.' % (app.stun.port, answers))


def stun_seconds(app, host):
    """How long a Binding request to an address of this machine takes, or None without an answer."""
    mask = struct.pack('>I', STUN_COOKIE) + app.random_bytes(12)
    begun = app.clock.steady()
    with socket.socket(listening_family(host)[0], socket.SOCK_DGRAM) as asking:
        asking.settimeout(STUN_SECONDS)
        try:
            asking.sendto(STUN_HEADER.pack(BINDING_REQUEST, 0, mask), (host, app.stun.port))
            answer = asking.recv(MOST_PACKET)
        except OSError:
            return None
    kind, _, echo = STUN_HEADER.unpack_from(answer.ljust(STUN_HEADER.size))
    return app.clock.steady() - begun if (kind, echo) == (BINDING_SUCCESS, mask) else None


@check('certificate')
def check_certificate(app, db):
    """Which certificate is shown, for which names and addresses, and until when."""
    if app.server and app.context is None:
        return judge_plain_http(app)
    text = read_if_there(app.path(SERVER_FILE))
    certificates = read_certificates(text)
    if not certificates:
        return fine('There is no certificate yet; the first start makes one.')
    if app.server and shown_certificate(app) != certificates[0].whole:
        return warn('%s has changed since the start.' % SERVER_FILE, 'Start the chat again.')
    return judge_certificate(app, certificates[0])


def judge_plain_http(app):
    if not app.server.server_port or leads_home(app.settings.host):
        return fine('Plain HTTP, which does not leave this machine.')
    return warn('Plain HTTP: everybody on the network can read along, passwords too.',
                'Start without --plain-http, or behind a proxy on this machine.')


def read_if_there(path):
    with contextlib.suppress(FileNotFoundError), open(path, 'rb') as file:
        return file.read()
    return b''


def shown_certificate(app):
    """The certificate that the server shows to those who come."""
    connection = connect_to(urllib.parse.urlsplit(app.server.url))
    with contextlib.closing(connection):
        connection.connect()
        return connection.sock.getpeercert(binary_form=True)


def judge_certificate(app, certificate):
    whose = "this server's own" if app.certificates.ours else 'yours'
    now, until = app.clock.now() / 1000, time.strftime('%Y-%m-%d', time.gmtime(certificate.until))
    sentence = 'The certificate is %s, until %s, for %s.' % (whose, until, ', '.join(map(str, certificate.hosts)))
    renewal = 'Put new ones in place of cert.pem and key.pem, and start again.'
    if app.certificates.ours:
        renewal = 'Start the chat again; it makes a new one.'
    if app.certificates.trouble:
        return warn(sentence + ' It cannot be renewed: ' + app.certificates.trouble, 'Mend that; until then this one serves.')
    if not certificate.since <= now <= certificate.until:
        return bad(sentence + ' It does not hold today.', 'See that the clock is right. ' + renewal)
    return warn(sentence + ' It ends soon.', renewal) if certificate.until - now < ENDS_SOON else fine(sentence)


@check('addresses')
def check_addresses(app, db):
    """Whether the certificate authority may vouch for every address of this machine."""
    hosts = own_names() + own_addresses()
    authority = read_certificates(read_if_there(app.path(AUTHORITY_FILE)))[:1]
    outside = [str(host) for one in authority for host in hosts if not is_permitted(host, one.permitted)]
    if outside and app.certificates.ours:
        return warn('The authority may not vouch for %s: there the browsers warn.' % ', '.join(outside),
                    'Use another address. Or delete ca.pem, ca-key.pem, cert.pem and key.pem while the chat is stopped: '
                    'a new authority is made, which every device has to trust anew.')
    return fine('This machine is %s.' % ', '.join(map(str, hosts)))


@check('firewall')
def check_firewall(app, db):
    """Which ports others have to reach, and the line that opens them."""
    ports = ports_to_open(app)
    if not ports:
        return fine('Only this machine, or a proxy on it, reaches the chat; no port has to be open.')
    lines = [line for program, line in firewall_lines(ports) if find_program(program)]
    names = ', '.join('%s %d' % (protocol.upper(), port) for port, protocol in ports)
    if not lines:
        return fine('Others need %s; no firewall is known to be here.' % names)
    return fine('Others need %s, which cannot be tried from here.' % names, 'If they cannot connect: ' + ' or '.join(lines))


def ports_to_open(app):
    """(port, protocol) of what others have to reach."""
    port = app.server.server_port if app.server else app.settings.port
    stun = app.stun.port if app.server else app.settings.stun_port
    if leads_home(app.settings.host):
        return []
    name = MDNS_PORT if app.settings.mdns_name else None
    return [(number, protocol) for number, protocol in ((port, 'tcp'), (stun, 'udp'), (name, 'udp')) if number]


def firewall_lines(ports):
    """(program, the line that opens ports with it) of each firewall that is known."""
    words = ['%d/%s' % pair for pair in ports]
    rule = 'netsh advfirewall firewall add rule name="MiniMost" dir=in action=allow protocol=%s localport=%d'
    added = ' '.join('--add-port=' + word for word in words)
    return [('ufw', ' && '.join('sudo ufw allow ' + word for word in words)),
            ('firewall-cmd', 'sudo firewall-cmd --permanent %s && sudo firewall-cmd --reload' % added),
            ('netsh', ' & '.join(rule % (protocol.upper(), port) for port, protocol in ports))]


def find_program(name):
    return shutil.which(name, path=os.pathsep.join([os.environ.get('PATH', os.defpath), '/usr/sbin', '/sbin']))


# -- the program

@check('page')
def check_page(app, db):
    """Whether the script and static/ are those that the server started with."""
    there = Assets(os.path.join(HERE, 'static'))
    if 'index.html' not in there.parts:
        return bad('The folder static/ is not beside the script.', 'Copy the whole folder of MiniMost.')
    if there.build != app.assets.build:
        return warn('minimost.py or static/ has changed since the start.', 'Start the chat again.')
    return fine('The page is of build %s.' % there.build)


@control('doctor')
def examine_by_hand(app):
    return examine(app, app.store.reader())


@route('GET', '/admin/doctor', role='admin', limit='read', lane='thread')
def get_findings(request):
    """What may be wrong with the server, and what to do."""
    return Reply(200, {'findings': examine(request.app, request.db)})


PLACE_ARGUMENTS = [one for one in SERVE_ARGUMENTS if one[0][0] in ('--lan', '--host', '--port', '--data', '--settings')]


@command('doctor', *PLACE_ARGUMENTS)
def doctor(options):
    """Look at everything that may be wrong, and say what to do; the server may run or not."""
    findings = ask_server(options.data, 'doctor', {})
    if findings is None:
        app = App(options.data, serving_settings(options))
        with still_database(app.folder) as db:
            with contextlib.suppress(sqlite3.Error, ValueError):     # what cannot be read, the checks tell
                if db:
                    read_stored_settings(app, db)
            findings = examine(app, db)
    print('\n'.join(map(finding_text, findings)))
    found_bad = [one['check'] for one in findings if one['state'] == 'bad']
    if found_bad:
        raise Trouble('Not well: %s.' % ', '.join(found_bad))


def checks_table():
    rows = ['| check | what it tells |', '|---|---|']
    return '\n'.join(rows + ['| %s | %s |' % (one.name, inspect.getdoc(one.look)) for one in CHECKS])


def finding_text(one):
    text = '%-5s %-12s %s' % (one['state'], one['check'], one['sentence'])
    return text + '\n%18s -> %s' % ('', one['remedy']) if one['remedy'] else text


# ---- 32. DEMO --------------------------------------------------------

DEMO_NAME = 'RV Meridian'

DemoPerson = collections.namedtuple('DemoPerson', 'username display_name title color role bio')
DemoChannel = collections.namedtuple('DemoChannel', 'key kind topic members voices share')
DemoMessage = collections.namedtuple('DemoMessage', 'channel author minutes_ago text reply_to pictures attachments')
DemoScene = collections.namedtuple('DemoScene', 'channel hours marks lines')
DemoLine = collections.namedtuple('DemoLine', 'speaker reply text')
DemoTable = collections.namedtuple('DemoTable', 'step columns')

DEMO_PEOPLE = [DemoPerson(*row) for row in (
    ('ann', 'Ann Kowalska', 'First officer', 'petrol', 'owner', 'Runs the paperwork so that the ship can run itself.'),
    ('marit', 'Marit Solberg', 'Chief engineer', 'rust', 'admin', 'If it turns, it is mine. Bergen, two cats.'),
    ('aleksi', 'Aleksi Niemelä', 'Captain', 'slate', 'member', 'Door open, coffee on. Call me early, not late.'),
    ('dimitra', 'Dimitra Papadaki', '2nd officer', 'plum', 'member', 'Charts, passage plans, the midnight watch. Από τη Χίο.'),
    ('noor', 'Noor Haddad', '3rd officer', 'moss', 'member', 'Safety gear and the 8 to 12. نور'),
    ('yusuf', 'Yusuf Demir', '2nd engineer', 'navy', 'member', 'Pumps, purifiers, patience.'),
    ('mateo', 'Mateo Núñez', '3rd engineer', 'rust', 'member', 'First contract on board. Asks a lot.'),
    ('minh', 'Minh Anh Nguyễn', 'Oiler', 'brass', 'member', 'Knows every bilge well by its first name.'),
    ('jonah', 'Jonah Weeks', 'Electrician', 'slate', 'member', 'It is always the connector.'),
    ('tomas', 'Tomás Oliveira', 'Bosun', 'moss', 'member', 'Deck, wires, knots. Helmets on, please.'),
    ('piet', 'Piet de Vries', 'Deckhand', 'navy', 'member', 'Painting what the sea unpaints.'),
    ('kwame', 'Kwame Mensah', 'Deckhand', 'petrol', 'member', 'Small boats and long splices.'),
    ('lukasz', 'Łukasz Zieliński', 'Winch operator', 'rust', 'member', 'Eight thousand metres of wire, all of it straight.'),
    ('zoe', 'Zoë Lambert', 'Chief scientist', 'rose', 'member', 'Keeper of the station list.'),
    ('priya', 'Priya Raman', 'Lab lead', 'plum', 'member', 'Label it, log it, freeze it.'),
    ('keiko', 'Keiko Arai', 'Oceanographer', 'rose', 'member', '海が好き。 CTD, salinity, stubborn sensors.'),
    ('siobhan', 'Siobhán Byrne', 'Marine biologist', 'moss', 'member', 'Krill people are the best people.'),
    ('eyal', 'Eyal Ben-Ami', 'Geophysicist', 'navy', 'member', 'Multibeam, sub-bottom, bad puns. אייל'),
    ('hana', 'Hana Dvořáková', 'PhD student', 'plum', 'member', 'Filtering water since breakfast.'),
    ('sigrun', 'Sigrún Björnsdóttir', 'ROV pilot', 'slate', 'member', 'Flies at 3000 metres without leaving her chair.'),
    ('omar', 'Omar El-Sayed', 'Radio and IT', 'brass', 'member', 'This chat, the LAN, the satellite dome. In that order.'),
    ('lena', 'Lena Fischer', 'Medic', 'petrol', 'member', 'Drink water. Sleep. Wear gloves.'),
    ('sam', 'Sam Okafor', 'Cook', 'brass', 'member', 'Feeds twenty-four, remembers every allergy.'),
    ('tala', 'Tala Reyes', 'Steward', 'rose', 'member', 'Laundry list, movie night, spare blankets.'),
)]

DEMO_ENGINE = ('marit', 'yusuf', 'mateo', 'minh', 'jonah')
DEMO_BRIDGE = ('ann', 'noor', 'dimitra', 'aleksi')
DEMO_DECK = ('tomas', 'piet', 'kwame', 'lukasz')
DEMO_LAB = ('priya', 'keiko', 'zoe', 'siobhan', 'hana', 'eyal')
DEMO_ALL = tuple(person.username for person in DEMO_PEOPLE)

# A direct channel's key names its members; voices are the cast for the scenes' letters A to D; share is in messages.
DEMO_CHANNELS = [DemoChannel(*row) for row in (
    ('general', 'public', 'Everything that has no better place', DEMO_ALL, DEMO_ALL, 150),
    ('random', 'public', 'Off watch: films, music, whales, the great knot debate', DEMO_ALL, DEMO_ALL, 140),
    ('all-hands', 'public', 'Notices for everybody aboard. Please answer roll calls.', DEMO_ALL, DEMO_ALL, 100),
    ('bridge', 'public', 'Passage, traffic, stations. Urgent things by phone: dial 1.',
     DEMO_BRIDGE + DEMO_LAB + ('tomas', 'marit', 'omar', 'lukasz', 'sigrun'), DEMO_BRIDGE, 190),
    ('deck', 'public', 'Winches, cranes, boats. Helmets on.',
     DEMO_DECK + DEMO_BRIDGE + ('keiko', 'zoe', 'sigrun', 'marit', 'mateo', 'hana', 'jonah'), DEMO_DECK, 220),
    ('engine-room', 'public', 'Loop B valve today. Log every reading with a photo.',
     DEMO_ENGINE + ('priya', 'tomas', 'ann', 'noor', 'keiko', 'omar', 'dimitra', 'sam', 'lukasz'), DEMO_ENGINE, 500),
    ('galley', 'public', 'Menu, leftovers, coffee supply', DEMO_ALL,
     ('piet', 'hana', 'mateo', 'eyal', 'kwame', 'siobhan', 'minh', 'noor'), 150),
    ('science-lab', 'public', 'Casts, cores, catches. Station list is pinned.',
     DEMO_LAB + ('sigrun', 'jonah', 'marit', 'lukasz', 'noor', 'ann', 'omar'), DEMO_LAB, 328),
    ('weather', 'public', 'Forecasts at 06 and 18, observations in between', DEMO_ALL,
     ('omar', 'dimitra', 'noor', 'keiko'), 110),
    ('officers', 'private', 'Bridge and engine heads', DEMO_BRIDGE + ('marit', 'yusuf', 'zoe'), DEMO_BRIDGE, 40),
    ('medical', 'private', 'Lena, the captain and the first officer', ('lena', 'aleksi', 'ann'),
     ('lena', 'aleksi', 'ann'), 20),
    ('ann+jonah', 'direct', '', ('ann', 'jonah'), ('ann', 'jonah'), 9),
    ('jonah+marit', 'direct', '', ('jonah', 'marit'), ('jonah', 'marit'), 10),
    ('jonah+keiko', 'direct', '', ('jonah', 'keiko'), ('jonah', 'keiko'), 9),
    ('sam+tala', 'direct', '', ('sam', 'tala'), ('sam', 'tala'), 8),
    ('dimitra+noor', 'direct', '', ('dimitra', 'noor'), ('dimitra', 'noor'), 6),
    ('keiko+priya+siobhan+zoe', 'direct', '', ('keiko', 'priya', 'siobhan', 'zoe'),
     ('keiko', 'priya', 'siobhan', 'zoe'), 10),
)]

# Name: lowest, highest, decimals. A scene draws each name once, so that its people talk about the same number.
DEMO_READINGS = {
    'temp': (36, 43, 1), 'cool': (29, 33, 1), 'bar': (2.4, 4.6, 1), 'flow': (185, 216, 0), 'rpm': (640, 780, 0),
    'load': (52, 81, 0), 'litres': (20, 95, 0), 'volts': (437, 446, 0), 'amps': (38, 92, 0),
    'depth': (880, 4150, 0), 'wire': (400, 3900, 0), 'wind': (9, 31, 0), 'gust': (32, 41, 0), 'sea': (0.8, 4.2, 1),
    'swell': (1.2, 4.4, 1), 'hpa': (986, 1026, 0), 'air': (3.5, 11, 1), 'knots': (8.2, 11.6, 1), 'course': (100, 350, 0),
    'salt': (34.2, 35.6, 3), 'oxygen': (4.1, 7.8, 2), 'frost': (-82, -77, 0),
    'locker': (2, 9, 0), 'bottle': (1, 24, 0), 'spare': (2, 7, 0), 'hours': (2, 9, 0), 'miles': (3, 14, 1),
    'tension': (8, 31, 1), 'grams': (4, 90, 0), 'room': (101, 232, 0), 'eggs': (60, 240, 0), 'few': (2, 5, 0),
    'degrees': (61, 66, 0), 'west': (3, 11, 0), 'arc': (1, 59, 2), 'arcs': (1, 59, 2),
}

# Key: minutes between the rows, then a name, lowest, highest and decimals for each column.
DEMO_TABLES = {
    'loop': DemoTable(30, (('in', 31, 33, 1), ('out', 38, 43, 1), ('flow', 186, 214, 0))),
    'generators': DemoTable(60, (('DG1 kW', 310, 420, 0), ('DG2 kW', 300, 410, 0), ('Hz', 59.8, 60.2, 1))),
    'tanks': DemoTable(240, (('day tank', 18, 24, 1), ('settling', 30, 42, 1), ('sludge', 2, 6, 1))),
    'exhaust': DemoTable(60, (('cyl 1', 338, 362, 0), ('cyl 2', 338, 362, 0), ('cyl 3', 340, 372, 0), ('cyl 4', 336, 360, 0))),
    'ctd': DemoTable(10, (('dbar', 200, 1900, 0), ('temp', 0.4, 6.8, 3), ('salt', 34.3, 35.4, 3), ('oxygen', 4.2, 7.1, 2))),
    'winch': DemoTable(15, (('wire m', 300, 2900, 0), ('kN', 8, 29, 1), ('m/s', 0.8, 1.1, 2))),
    'weather': DemoTable(180, (('wind kn', 8, 34, 0), ('sea m', 0.8, 4.4, 1), ('hPa', 988, 1024, 0))),
    'freezer': DemoTable(20, (('probe 1', -82, -74, 1), ('probe 2', -81, -73, 1))),
}

# Name: value now, change for every day back, decimals; these readings tell how far the voyage has come.
DEMO_PROGRESS = {'cast': (88, -4, 0), 'station': (48, -2.5, 0), 'fuel': (182.4, 4.6, 1)}

DEMO_BUSY_HOURS = [4, 2, 1, 1, 4, 5, 8, 12, 16, 12, 11, 11, 14, 15, 11, 12, 14, 11, 11, 12, 11, 9, 7, 5]
DEMO_DAYS = 14

# `== channel hours marks`, then one message a line or several between ` ;; `. Marks: one (every message is a scene
# of its own), often (comes up three times as much), final (the channel's last words).
# speaker>3: answers the scene's third message; A to D are drawn from the channel's voices, {A} is the given name.
# {reading}, {this|or that}, {now}, {-40} minutes on the clock, {block loop} or {table loop} for readings;
# at the end of a line [gauge name] adds a picture and [csv loop] or [log loop] a file.
DEMO_SCENES = r'''
== engine-room 3,7,11,15,19,23 often
A: {Handing over|Watch over|Off in ten}, @B. DG1 and DG2 on the bus, load {load} %, nothing on the alarm page.
B: {Coming down|On my way|Boots on}. Anything warm? ;; A>2: Only loop B, {temp}° out. Day tank topped to 20.4 at {-40}, sludge pump is in auto.
B: And the purifier? ;; A: {Cleaned it at {-90}|Running, discharge interval 60 min|Number two running, number one open on the bench}.
B: I have the watch. {☕|Sleep well|👍 Good night}
== engine-room 6-10
marit: Morning round done. Loop B is running warm again, {few}° over yesterday at the same load.
marit: Strainer is clean. I think it is the bypass valve, not the pump.
yusuf>2: Agreed. It answers, but never reports `closed`. Readings so far:\n{block loop}
mateo: Could it be the sensor? Same type as the one we changed {in Bergen|last month|at the yard}.
marit>4: Good question, check it against the hand thermometer before you believe it.
mateo: Hand thermometer says {temp}, screen says {temp}. So the sensor tells the truth. [gauge loop-b]
marit: Then the valve lies. @jonah limit switch, please.
== engine-room 9-17
priya: @jonah can you look at the limit switch before the lab freezer joins that loop? Samples come in at {+120}.
jonah: After {coffee|the crane brake|this cable}. Is the freezer safe until then? ;; priya: {frost} and holding, so yes, about {hours} hours.
tomas: Found it. The switch arm is bent, circled. [gauge switch-arm]
jonah>4: That explains everything. The spare arm was in locker {locker}. ;; marit: 👏 Log it with the part number, please.
jonah: `LS-2207-B`, fitted {now}, three open and close cycles, reports both ends. One spare left.
== engine-room 0-5
A: Bilge alarm aft, {now}. Looking.
A: {20 litres|A bucket or two} of **clean** water, from the {fresh water pump seal|AC drain|wash basin on the platform}. Pumped, alarm reset.
B>2: Tasted it? 😄 ;; A: Salinity strip, thank you. Fresh. ;; B: Seal kit is in locker {locker}, third box from the left. I will do it after breakfast.
== engine-room 8-18
A: Fuel figures for the noon report, @dimitra: {fuel} m³ on board, {flow} l/h over the last day.
dimitra>1: Thanks. That leaves us {hours} days of reserve at this speed, the captain will smile.
B: He {smiles|smiled} once in 2019, I {was there|have a witness}. ;; dimitra: I {read|forward} this channel to him, you know. ;; A: 😇
== engine-room 9-16
minh: Purifier 1 is losing its seal water, bowl opens by itself after {minutes|a few minutes|twenty minutes}.
yusuf: O-ring or operating water pressure? ;; minh: Pressure is {bar} bar, so O-ring.
yusuf: Kit `PU-114`, {spare} left. Please count them, the store says something else.
minh>4: Counted: {spare}. The store list is wrong by one, I corrected it. ✅
mateo: Can I do it with you? I have never seen a bowl opened. ;; minh: Bring gloves and an old shirt.
mateo: _Done._ I smell like a diesel sandwich, but it turns and stays closed.
== engine-room 9-15
A: Exhaust temperatures since the injector change:\n{table exhaust} ;; B: Cylinder 3 runs a little hot still. Pump rack or nozzle?
A: Nozzle, I think. The rack is within half a millimetre. ;; marit: Leave it until {tomorrow|the transit}. Over 375 we reduce and swap.
B>3: Spare nozzle is tested, 350 bar, nice spray. [chart exhaust-trend]
== engine-room 10-16
omar: The camera over the switchboard has no picture. {Network or camera|Cable or lens}, anybody near?
jonah>1: Power is there. It is always the connector. ;; jonah: It was the connector. ;; omar: 🙏 Back: http://192.168.1.24/machinery
minh: We can see Mateo sleeping in the control room now. ;; mateo: I was **reading**. With my eyes closed.
== engine-room 8-20
keiko: Is somebody running something big? I see 50 Hz hum in the winch telemetry since {-30}. ;; jonah: Deck crane was on until {-10}. Still there?
keiko>2: Gone now. ありがとう! Can you tell us before the next cast? ;; jonah: Will do. I also want to check that screen, it should not couple like this.
marit: Earth it at one end only. Somebody was helpful with both.
== engine-room 9-17
sam: Galley oven two trips the breaker at {220|200} degrees. Lunch is for twenty-four people. No pressure.
jonah: Coming. Please unplug the toaster first. ;; sam: You leave my toaster out of this.
jonah: Heating element to earth, 0.3 MΩ. I have {one|two} in stores.
sam>4: {Bread|Lasagne|Chicken} moved to oven one. You get the first {slice|corner piece}. ;; jonah: Changed, tested, {amps} A on all three. 🍞
== engine-room 13-17
marit: Fire pump test in ten minutes, emergency pump after it. @noor are your people at the hydrants?
noor: Two hoses forward, one aft, ready. ;; A: Started {now}. {bar} bar at the manifold.
noor>3: {bar} at the forward hydrant, good throw. Stop when you like. ;; A: Stopped. Emergency pump took {few} s to prime.
marit: Logged. Thank you all, hoses back **dry**, please.
== engine-room 6-21
A: Air compressor 2 is short cycling. Starts every {few} minutes. ;; B: Leak or unloader?
A: Soap test: whistle hose by the workshop door. {Somebody left it open a crack|Split at the ferrule}.
B: New hose from the rack, 12 m. I cut it already. ;; A>4: Fitted. Holds pressure for an hour: {bar} → {bar} bar.
== engine-room 9-18
yusuf: Watermaker gives {litres} l less per hour than last week. Sea is {cool}° at the inlet of the preheater.
marit: Prefilters? ;; yusuf: Changed Monday. Product is 180 µS, so the membranes still work.
minh: Long showers? 🚿 ;; yusuf>4: That is consumption, not production. But yes, also that.
marit: Chemical clean on the next transit day. Everybody: **three minute showers** until then.
mateo: Three minutes from cold or from warm? ;; marit: From stupid questions, Mateo.
== engine-room 18-22
A: Quiet evening. {rpm} rpm, {knots} knots, sea {sea} m. Reading the old logs: somebody drew a whale in 2016.
B: That was {me|the last oiler|Marit}. Page 212. ;; marit: I deny everything. It is a good whale.
A>1: It has a moustache. ;; B: _Chief engineers often do._
== engine-room 10-17
A: Spare parts for the port call list, last chance today:\n- {spare} O-ring kits `PU-114`\n- 2 nozzles, 1 fuel pump\n- belt for the lathe\n- **real** coffee
B: Add contact cleaner, we are on the last can. ;; C: And 16 A fuses, slow. {A} knows why.
A>3: I know nothing. Added. ;; marit: Coffee is approved under _lubricants_.
== engine-room 7-12
minh: Sewage plant smells. I know, it always smells. It smells **more**. ;; yusuf: Blower?
minh: Blower turns, belt slips. {amps} % of normal air. ;; yusuf: Belt `B-47` hangs behind the door.
minh>4: On. Give the little animals until {+300} to forgive us.
== engine-room one
B: Round {now}, nothing to report except a {singing|squeaking|rattling} floor plate by DG2. Wedge fitted.
A: Tank soundings:\n{table tanks} [csv tanks] ;; minh: Bilges dry, {litres} l to the holding tank, oil record book written.
A: Earth fault on the 230 V lighting, {volts} side clear. Probably the deck socket again. Isolated circuit {locker}.
yusuf: DG1 to standby at {+30}, DG2 carries {load} % alone. Shout if your machine wants more.
A: Changing over sea chests, port to starboard. {Jellyfish|Ice slush|Kelp}. Expect a {two|three} degree bump.
B: Battery room fan back in service after a new {bearing|capacitor}. ;; mateo: Steering gear tested both pumps, 35 to 35 in {19|21|22} s. Greased.
jonah: UPS in the server rack: {hours} min on battery during the test. Batteries on the port list.
minh: Lube oil sample taken from DG1, bottle {bottle}, going to the lab drawer.
A: Somebody took the 19 mm spanner. It has a {red|green} ring. I am not angry, I am just disappointed.
jonah: Megger day. Fan motors 1 to 6 all over {amps} MΩ. [log generators]
A: تمام، المضخة تعمل الآن. Pump is fine, for those who do not read my phone's mood.
== engine-room one often
A: {Round|Machinery round|Walked the round} {now}: {all normal|all quiet|nothing new}. Loop A {cool}°, loop B {temp}°, {bar} bar lube oil.
B: {now}, {rpm} rpm, load {load} %. {DG1 alone|DG1 and DG2}, {dry bilges|a cup of water in bilge 3|bilges wiped}. {👍|✅|All good|Next round in two hours}.
C: {Purifier|Watermaker|Sewage plant|Boiler} {running, no leaks|cleaned and back|stopped for ten minutes, filter}. Loop B {temp}° out.
D: {Ask me|Write it down}: {DG2|DG1} over {load} % since {-30}, {the winch|the galley|bow thruster} is {hungry|busy}.
A: Generators this watch:\n{block generators} ;; A: Loop B now:\n{block loop} [gauge loop-b]
== engine-room final
marit: Morning round done. Loop B is running warm again, 4° over yesterday at the same load.
marit: Strainer is clean. I think it is the bypass valve, not the pump.
yusuf>2: Agreed. It answers, but never reports `closed`. Readings so far:\n```\ntime    in     out    flow   valve\n{-80}   31.4   38.9   212    open\n{-50}   31.6   40.2   209    open\n{-20}   31.5   42.8   188    open?\n```
priya: @jonah can you look at the limit switch before the lab freezer joins that loop? Samples come in at {+100}.
tomas: Found it. The switch arm is bent, circled. [gauge loop-b-valve]
jonah: Pulling it now. The spare arm was in locker 3, photo coming. [gauge spare-switch-arm]
marit>6: Good. Log the reading when it closes, then coffee.
== deck 6-19 often
lukasz: Winch 2 ready for cast {cast}, {depth} m on the sounder. Who has the rail?
keiko: CTD is soaked, pumps on at ten metres. @A has the rail. ;; A: Rail closed, tag line off. Lower away.
lukasz: Going down, 1.0 m/s. ;; lukasz>4: {wire} m, tension {tension} kN, wire looks clean.
keiko: Stop. Bottle {bottle} firing. ;; lukasz: Stopped. Coming up on your word. ;; A: On deck {+60}, all twenty-four closed, nobody wet. 💪
== deck 7-10
tomas: {Good morning|Morning, deck}. Today:\n1. Wash down aft, **salt off the winches**\n2. {Grease crane sheaves|Chip and paint the port rail|Overhaul the stern roller}\n3. Mooring lines to dry
A: Who has the paint locker key? ;; B: {Piet, as always|Your left pocket}.
A>2: ... {found it|it was there}. ;; tomas: ☀️ Start before it {rains|blows|snows}.
== deck 8-16
zoe: Can the mooring go in today? What is the sea doing, and can we have {hours} hours?
tomas: {sea} m now. Let me look at the swell from the crane. [sea afternoon-swell]
tomas>1: Yes if the bridge gives us a lee. Anchor first or buoy first?
zoe: Buoy first, anchor last, like the drawing on page {few}. ;; noor: Lee from {+30}, course {course}. Good for you?
tomas: Good. Toolbox talk at {+20} by the A-frame, **everybody** in helmets and vests.
kwame: Acoustic release tested on deck, answers. Serial ends in {bottle}.
== deck 9-18
sigrun: ROV to deck checks in 20. Need the crane and two people on tag lines. ;; A: {Two|Three} coming.
sigrun: Tether is at {tension} kN in the swell, I want to wait for a flat moment.
tomas: Count to seven waves, then it is flat. Old fishermen's rule. ;; sigrun>3: It was eight. But we are in. 🤖
jonah: Ground fault on the tether? Screen shows {few} MΩ. ;; sigrun: Known, dries out at depth. Watching it.
== deck 10-17
piet: Hydraulic oil under the stern crane, {half a litre|a small puddle}. Sawdust on it, area closed.
tomas: Which hose? ;; piet: Luffing cylinder, upper. It weeps at the crimp. [gauge crane-pressure]
marit: Mateo brings a new one, {bar} m with both ends. Do not touch it under pressure.
mateo>4: Pressure off, lock on the breaker, my tag is red. ;; piet: Changed, ten cycles, dry. Deck washed.
tomas: Good catch, {Piet|young man}. Saw it before it saw us.
== deck 8-17
lukasz: Splicing course for anybody who wants, {+60}, hangar. Bring nothing. ;; hana: Can scientists come?
lukasz>2: Especially scientists. I have seen your knots. ;; hana: 😶 Fair.
kwame: Last time {Eyal|Omar} tied himself to the bench. ;; tomas: And it held. Good knot.
== deck 14-17
noor: Boat drill after coffee: rescue boat, port side. Crew: @kwame @piet, and @sigrun as the casualty.
kwame: In the water or in the boat? ;; noor>2: Dummy goes in the water. Sigrún goes in the boat.
sigrun: Promoted to cargo. ;; kwame: Away at {now}, back at {+20}, hook on first try.
noor: Swamped to stowed in {few} minutes. Best this season. Bilge plug is **in**, I checked.
== deck 4-9
A: Ice on the foredeck, {a centimetre|thin but slick}. Salt and sand down, ropes rigged.
B: Hands on the rope, please, I have {hips|coffee} to protect. ;; A>2: Always one hand for the ship.
tomas: Forward of the breakwater is **closed** until {+180}. ;; noor: Announced on the PA, thanks.
== deck one
lukasz: Winch log, last cast:\n{block winch} [csv winch] ;; A: Aft deck washed, drains open, grating back.
B: Who left the big shackle on the bench? It now lives in locker {locker}. ;; tomas: Wind over 25 knots on deck: crane work stops, coffee starts.
A: Sunset from the boat deck. [sea sunset] ;; piet: Port rail primed. **Wet paint.** I know you will touch it anyway.
lukasz: {wire} m of wire re-spooled under {tension} kN. Straight as a Sunday.
kwame: Tag lines renewed, {few} of 12 m. The old ones are now Piet's art project.
tomas: Lashings checked before the swell: containers, boat, drums, barbecue.
== bridge 3,7,11,15,19,23 often
A: Handing over to @B: course {course}, {knots} knots, {degrees}° {arc}′ N {west}° {arcs}′ W, on autopilot.
B: Traffic? ;; A>2: One fishing vessel {miles} miles on the port bow, gear out. Passing astern of us.
B: Weather? ;; A: {wind} knots, sea {sea} m, barometer {hpa} and {steady|falling slowly|rising}. ;; B: I have the watch at {now}. {☕|⚓|Rest well}
== bridge 7-21
zoe: Next is station {station}. Can we be there by {+120}? ;; A: {miles} miles at {knots} knots: {+90}.
zoe: Perfect. CTD first, then the core if the bottom is soft. ;; eyal>3: Sub-bottom says {few} m of mud. Soft as cake. [plot sub-bottom]
A: On station {+90}, DP on, heading {course} into the swell. Deck can open the rail when I say.
lukasz: Standing by on channel 8. ;; A: Rail is yours.
== bridge 0-5
A: AIS target without a name, {miles} miles, {knots} knots, nothing on the lights. ;; B: Radar too?
A: Yes, small echo, steady. Called twice on 16, no answer.
B>3: {Buoy|Growler|Fishing float with a transmitter} perhaps? Slow down and put the searchlight on it.
A: It is a {drifting buoy with a very proud gull|fishing float with a transmitter}. Logged, reported, gull unharmed. 🐦
== bridge 8-11
omar: Satellite dome is blocked on courses {course} to {course} plus thirty, by the mast. Mail will wait an hour.
A: Next turn is at {+60}. ;; omar: Fine, I told the scientists it is a feature. Chat and files are on the LAN and do not care.
zoe>3: _We_ care about the upload. ;; omar: It resumes by itself. Queue: http://192.168.1.10/outbox
== bridge 12 often
dimitra: Noon report:\n| item | value |\n|---|---|\n| position | {degrees}° {arc}′ N {west}° {arcs}′ W |\n| speed | {knots} kn |\n| fuel | {fuel} m³ |\n| wind, sea | {wind} kn, {sea} m |
aleksi: Thank you. {Add|And|Do not forget} the {hours} hours on station{.| for station {station}.} ;; dimitra>2: Added, and sent at {+10}.
== bridge 16-22
noor: Whales, {two|three|five} of them, {course}°, less than a mile. Slowing to 6. 🐋 ;; siobhan: RUNNING
siobhan: Fin whales! Did anybody photograph the right side of the jaw? ;; noor>3: I photographed a splash. [sea whale-splash]
siobhan: It is a very good splash.
== bridge 9-17
ann: Chart corrections {few}/26 are in. Two wrecks moved, one light changed its character. ;; dimitra: As do we all.
ann: Ha. Please tick the passage plan when you have looked, @noor @dimitra.
noor: Ticked. ;; dimitra>3: Ticked, with a question about the anchorage: {few} cables from the cable. Too close?
ann: Good eye. Moved it north by half a mile.
== bridge one
A: Position {now}: {degrees}° {arc}′ N {west}° {arcs}′ W, {knots} knots on {course}.
B: Gyro checked by azimuth of the {sun|moon|leading light}: {few} tenths low. Log updated.
A: Clocks go {back|forward} one hour at 02:00. Breakfast does not. ;; dimitra: Καλημέρα από τη γέφυρα. Calm, clear, {hpa} hPa.
noor: Monthly checks: EPIRB, SARTs, line thrower all good. Flares expire in {hours} months.
A: Hot work permit number {bottle} open until {+120}, funnel deck. Detector loop {few} isolated.
aleksi: Arrival draft {few}.8 m, pilot booked. Details in the passage plan.
A: First ice on the radar, {miles} miles. Lookout doubled. [sky first-ice]
== science-lab 6-20 often
keiko: Cast {cast} is up, {wire} m. Bottle {bottle} leaked again, please do not use it for oxygen.
hana: {Copy.|Noted.|OK.} Taking {salts|nutrients|salts and nutrients} from {the neighbour|the next one up|bottle {few}}. ;; priya: Label as `M{cast}-B` so that we see it later.
keiko>1: First look:\n{block ctd} [csv ctd]
zoe: Is that the oxygen minimum at {oxygen}? Deeper than the last line. ;; keiko: {Yes, and fresher. New water, I think. 🤩|Yes, {few} metres thicker than on the last cast.|Upcast says the same, so I believe it.}
priya: {Do not publish before lunch.|Nobody writes a paper before coffee.|Plot is on the share.|Beautiful step at the bottom of the mixed layer.} [chart cast-profile]
== science-lab 0-23
priya: Freezer 2 alarm, {frost}° and **rising**. Door? ;; hana: Door is closed. Fan is silent, ice on the coil.
jonah: Coming. Move the {blue|red} box first, then the rest. ;; priya: Moved {grams} tubes to freezer 1, dry ice on top.
jonah>3: Defrosted, fan runs, relay had a bad morning. Falling again. [gauge compressor]
priya: {block freezer}\nBack to normal by {+90}. Thank you, and no opening until then!
== science-lab 8-18
siobhan: Net is in: {grams} g of krill, two lanternfish and a very offended squid. 🦑
hana: Can I have three for lipids? ;; siobhan>2: Three krill, yes. The squid goes home.
zoe: Depth? ;; siobhan: {wire} m on the wire, about half of that really. [plot krill-layer]
eyal: I saw them on the 38 kHz at {-40}. Your lunch was my noise. ;; siobhan: Your noise is my career.
== science-lab 9-19
eyal: Multibeam line done, {miles} nautical miles. There is a channel nobody has drawn. [plot channel]
zoe: Width? ;; eyal: {flow} m, walls of {amps} m. Looks like a slide scar at the west end.
zoe>1: We could core it at station {station}. Half a day. ;; eyal: תודה! Best half day of the year.
ann: If the wind stays under 20. Ask me at {+180}. ;; zoe: Asking at {+180}. ⏰
== science-lab 9-20
hana: My blank is higher than my samples. What did I do wrong? ;; priya: Which water? ;; hana: The carboy by the door.
priya>3: That one is for rinsing buckets. Use the tap marked **UV**. ;; hana: 🙈 Four hours of filtering.
keiko: We all did it once. I did it for {two|three} days. ;; hana: That helps, strangely.
== science-lab 8-19
zoe: Salinometer and CTD differ by 0.00{few}. Drift or bottles? ;; keiko: Standard sea water batch P{room}, fresh ampoule: same.
keiko: So drift. Correction for casts from {cast} on: `S = S0 + 0.00{few}`. ;; priya: I put it into the sheet and in the README.
zoe>2: Nice work, both. One fewer thing for the reviewers.
== science-lab 12-18
sigrun: Dive {bottle} plan: bottom {depth} m, {hours} hours, push cores at three marks, then the sponge garden.
siobhan: Please film the stalks first, before dust. ;; sigrun>2: Slow and low. Joystick with two fingers.
zoe: Live on http://192.168.1.24/rov for everybody who wants to see it. ;; omar: Twelve watching, the LAN does not even blink.
sigrun: On bottom {now}. There is a {boot|bottle|plate}. There is always one. ;; siobhan: And a sponge inside it. ❤️
== science-lab 6-9,19-22
A: Plan until {tomorrow|the evening}:\n- CTD {cast} at station {station}\n- {net tow|core|bongo net}, then transit\n- filters **before** dinner
B: Who has the night? ;; C: Me and {D}. ;; B>1: How many bottles? ;; A: All. Sorry. ☕
== science-lab one
keiko: 塩分 {salt}、酸素 {oxygen}。きれいなデータです。 Lovely data, cast {cast}. ;; A: Filtration rota for tonight: A to L before midnight, the rest after breakfast.
priya: Inventory: {few} boxes of vials, {bottle} L ethanol, one good pen. Return my pen.
A: Station {station} is done: {wire} m, {hours} samples, no broken glass.
eyal: Echogram from the last hour, look at the layer come up at dusk. [plot migration] ;; A: Readings for the log:\n{table ctd}
B: Nitrogen generator is refilled. Hearing protection near the door, please.
hana: Microscope is free. It has seen things. {Diatoms|Copepods}, mostly.
A: > In God we trust, all others bring data.\nFrom the door of the old lab. It still holds.
== galley 9-11 often
sam: Lunch today: {fish pie, peas, and a bean stew|chickpea curry, rice, flatbread|goulash, dumplings, mushroom version}. {Apple crumble|Orange cake|Rice pudding} after.
A: Is the {stew|second one} vegan? ;; sam>2: It is. No nuts today at all, @hana can eat everything. ;; hana: 🎉
B: Late lunch for {few} on deck, we have a cast until {+200}. ;; sam: Plates kept warm, names on the foil.
== galley 11-19
A: Whoever made the {flatbread|soup|crumble}: marry me. ;; sam: That was Tala. ;; tala: I accept in writing only.
B>1: Queue here. ;; C: Is there more? ;; tala: Left tray, behind the salad that nobody moved.
== galley 8-20
tala: Coffee status: {spare} kg beans, {few} weeks to go. Do the maths. ;; A: I did. I am afraid.
B: Half decaf? ;; A>2: We do not say that word. ;; marit: Engine room will trade tools for beans.
sam: Nobody trades. One extra bag is hidden, only the captain and I know where. ;; aleksi: I know nothing.
== galley 13-18
sam: {eggs} eggs and four flats of tomatoes left. Freezer full. Fresh greens until about {Thursday|Sunday}.
A: The lettuce in the science container grows well! ;; sam>2: That is an experiment, no? ;; hana: It is _lunch with error bars_.
== galley 17-20
sam: It is {Kwame|Keiko|Mateo|Lukasz}'s birthday tomorrow. Cake at 15:30, not a word. ;; tala: Candles: {few}, all different.
A: I can play something. ;; B: Please not the accordion. ;; A>3: **Especially** the accordion. 🪗
== galley one
sam: Menu for tomorrow:\n1. Porridge, eggs\n2. {Lentil soup|Ramen|Borscht}\n3. {Tacos|Cod|Lasagne}, salad
tala: Mugs! Eleven are missing. I will look under your beds. ;; sam: Bread at {+20}. Line forms on the left.
A: The {hot sauce|mustard} from the last port is empty. Half mast.
tala: Night sandwiches are in fridge 2: cheese, tuna, hummus. Blue tape means **midnight watch only**.
sam: Galley sink blocked again, no rice down the drain, friends.
== weather 6,18 often
omar: Forecast:\n> {West|North-west|South-west} {wind} knots, gusts {gust}. Sea {sea} m, swell {swell} m. Showers, moderate visibility.
A: Barometer {hpa}. {Do we believe the model?|And the front?|Is that the whole truth?} ;; omar>2: Last {few} days it was half a day too early.
zoe: Window for the {mooring|core|ROV dive|net|small boat} {then|after that|tomorrow}? ;; omar: From {+300} for about {hours} hours. Then closed until the low has gone. [chart pressure]
== weather 8-20
dimitra: {swell} m swell from the west, long and lazy. ;; A: We feel it in the lab. Books on the floor.
omar: Low at {hpa} hPa passes north of us at {+400}. ;; dimitra>3: Then lash for 35 degrees tonight. Please check cabins too.
tala: Blankets and {ginger biscuits|crackers} at reception, seasick pills at Lena's.
== weather 20-23,0-3
A: Aurora! Starboard side, go now. 💚 [sky aurora]
B: Deck lights off for ten minutes, I asked the bridge. ;; C>1: I have never seen that. Děkuji for waking me.
noor: يا سلام، ما أجملها! Lights on again at {+10}, please hold the rail.
== weather one
omar: Observation {now}: {wind} knots, {air}° air, {hpa} hPa, sea {sea} m. ;; A: Last hours:\n{table weather}
A: Fog, visibility {few} cables. Whistle is on, sorry, sleepers. ;; B: Sun pillar this morning. [sea sun-pillar]
dimitra: Πέφτει το βαρόμετρο: {hpa}. The glass is falling. ;; omar: Wave buoy says {sea} m, my stomach says {swell}. [chart wave-height]
A: Stars out, Milky Way to the horizon. [sky milky-way]
== all-hands 9-15
ann: **Drill today at {+60}**: abandon ship, muster at your stations. Warm clothes, life jacket, no phones.
A: Also the night watch? ;; ann>2: Also the night watch, sleep after. Sorry.
noor: Twenty-four of twenty-four in {few} minutes. Thank you. Jacket lights: check yours, {few} were dead.
lena: And drink something warm before going back. ;; ann: Next one is _not_ announced. 😉
== all-hands 8-12
aleksi: Good morning all. We finished line {few}, ahead of plan by {hours} hours. Thank you, deck and lab.
zoe: Thank _you_. We would use the hours for station {station}, if you agree. ;; aleksi>2: Agreed. Then south, before the low.
A: 👏👏 ;; tala: Film night at eight to celebrate. Vote on the paper by the door.
== all-hands 10-18
omar: Chat moved to the new server: https://192.168.1.10:8765 Same name, same password.
A: My phone warns about the certificate. ;; omar>2: Compare the fingerprint with the sheet at the mess door, then trust it.
B: Works. And the old messages? ;; omar: All there, photos too. Tell me when something is missing.
== all-hands one
ann: Cabin inspection {tomorrow|on Friday}, 10:00. Floors free, portholes dogged.
tala: Laundry: deck and engine on even days, lab on odd days. Pockets empty. I found a **squid**.
noor: Ladder on the port side is closed for painting until {+240}. ;; aleksi: We cross {degrees} north at {+120}. Hot chocolate on the bridge wing.
lena: Gloves and hats, everyone. It is {air}° and the wind is not included.
ann: Watch list for the week is on the board and here: http://192.168.1.10/watches
== general 8-20
A: Lost: one black {glove|notebook|beanie}, left, sentimental value. ;; B: Found one in the {hangar|wet lab|sauna}. Coffee stain?
A>2: That is the one! ;; B: It is on the hook by the mess. ;; C: I have the _right_ one since May.
== general 9-21
A: Does the printer by the library work for anybody? ;; omar>1: Tray two. It eats tray one. ;; A: It ate my chapter.
omar: Then it has read more of it than your supervisor. ;; B: 🔥 ;; A: I felt that.
== general 10-22
A: What time is it at home now? I lost count after the second clock change. ;; dimitra: Ship is UTC minus 1. Home is your problem.
B>1: Minus one, plus two for summer, carry the cat. ;; A: Thank you, that is the nicest wrong answer today.
== general 8-20
lena: Sore throat going round, {few} people. Please wash hands and do **not** share bottles.
A: Are masks in the mess? ;; lena>2: Box by the door. Tea with honey at Sam's. ;; sam: Honey is rationed, hugs are not.
== general one
A: Is anybody using cabin {room} for storage? There is a kayak in it. ;; B: Gym bike is fixed. It goes nowhere at {knots} knots.
A: Whoever sings in the shower on C deck: more, please. 🎶 ;; omar: Backup of the shared drive done, {fuel} GB, checked by reading it back.
C: Postcards go ashore with the pilot. Box is at reception.
== random 19-23
tala: Film tonight? Votes: 🐙 documentary, 🚢 the one that sinks, 🍿 comedy. ;; A: Not the one that sinks. ;; B>2: **Always** the one that sinks.
C: Comedy, and early, I have the midnight. ;; tala: {Comedy|Octopus} wins with {hours}. Eight o'clock, blankets allowed.
== random 12-22
A: Knot question: {bowline|sheet bend|clove hitch} or {zeppelin bend|rolling hitch}? ;; tomas: Depends who hangs on it.
B: _My thesis._ ;; tomas>3: Then both. ;; A: 😂
== random 9-22
A: There is a bird in the {hangar|paint store|library}. ;; siobhan: Which bird? ;; A: Brown, angry.
siobhan>3: That is a {storm petrel|skua chick|very lost thrush}. Lights off, door open, wait. ;; A: Gone. Left us a present.
== random 13-21
eyal: Why did the echo sounder break up? It needed some depth. ;; A: Out. ;; B: Overboard. ;; eyal>1: It was a sound joke.
hana: I laughed. I am tired, but I laughed. ;; eyal: רגע, יש לי עוד אחת. I have another one.
== random 20-23
A: Table tennis, C deck, ship rolls {few}°. House rule: the ball is never wrong. ;; B: On my way. ;; C>1: Winner plays Marit. ;; marit: Bring spare pride.
== random one
A: Sky from the bridge wing. [sky midnight] ;; B: Sea like glass this morning. [sea glass]
keiko: 今日はカレーの日! Curry day, nobody talk to me until 12:30. ;; A: Day {bottle} at sea: named the dust under my bunk.
C: Guitar has five strings and {few} volunteers. ;; A: What has {hours} legs and loves {frost} degrees? My lab coat, standing up by itself.
== officers 9-20
ann: Port papers: crew list, stores list, health declaration. @yusuf bunker figure by {+120}? ;; yusuf: You have it in an hour.
dimitra: Pilot confirmed {+400}. Berth {few}, starboard side to. ;; aleksi>1: Good. Keep it here until the agent confirms.
== officers 17-22
marit: I want {hours} hours stopped for loop B. When does it hurt least? ;; zoe: Between stations {station} and the next.
aleksi>1: Take the night, we drift with sea room of {miles} miles. ;; ann: In the night orders.
== officers one
ann: Rest hours are green for all but one. {A}, sleep. That is an order with a pillow.
aleksi: Night orders are written. Call me for: under {miles} miles visibility, any ice, any doubt.
noor: Liferaft {few} service papers are in the {blue|safety} folder.
ann: {Owners|The office|The agent} asked for {fuel|rest hours|crew change} figures, answered {now}.
dimitra: Passage plan version {few} is ready to sign. ;; aleksi: Coffee in my cabin at {+60}, ten minutes, {next port|night orders|the low}.
noor: Drill debrief: {few} points, all small, list in the safety folder.
== medical 8-20
lena: Weekly: {few} seasick, one splinter, one burn from the toaster. All back at work. ;; aleksi: The toaster again?
lena>2: I have asked Jonah for a word with it. ;; ann: Entered. Oxygen bottles? ;; lena: Both at {flow} bar, checked today. Defibrillator green.
== medical one
lena: Stock of seasick pills: {litres}. Enough for one bad low.
lena: First aid refresher Thursday 16:00, ten places. {ann|aleksi}, please remind the deck. ;; lena: Clinic is closed {-30} to {+60}, pager on.
aleksi: Thank you for last night, Lena. {He|She|The patient} is smiling again. ;; lena: Fridge log {now}: {few}.{few} °C, fine.
lena: Water test from tank {few}: clear, chlorine 0.2.
== ann+jonah 8-20
ann: Can you come by about the emergency lighting list? ;; jonah: In {few} minutes. Deck C is done, {bottle} lamps.
ann: Great. And the bridge socket? ;; jonah>3: The connector. ;; ann: It is always the connector. 😄
== ann+jonah one
jonah: Muster lamp {few} fixed. {It was the connector.|New tube.|Loose neutral.} ;; ann: Thanks for the quick fix in cabin {room}.
ann: Inspector asks for the insulation sheet. Attached the old one, is there a newer? [csv generators]
jonah: Navigation lights tested, spare bulbs {few}, all good.
== jonah+marit 8-20
marit: How is your back? ;; jonah: Better than the bow thruster starter. ;; marit>2: Do not lift it alone. Take Mateo.
jonah: Took Mateo. He took the manual. We got it out. ;; marit: Proud of you both. Contactor ordered.
== jonah+marit one
jonah: Starter panel {few} cleaned and tight. {amps} A on the test. ;; marit: Cable tray drawing for locker {locker}, do you have it?
jonah: Night call at {-120}, {few} minutes, cooling fan. All good. ;; marit: Overtime sheet is due, yours is the only empty one.
jonah: Old contactor, for your collection of horrors. [gauge bow-thruster]
== jonah+keiko 9-21
keiko: Conductivity cell shows zero. Plugged in and everything. ;; jonah: Did you count to ten? ;; keiko: 十まで数えました。 Yes.
jonah>3: Then bring it and the cable. ;; keiko: The cable had a tooth mark?! ;; jonah: Fish, or Eyal.
== sam+tala 7-21
sam: Flour: {eggs} kg. Are we dreaming or did someone bake at night? ;; tala: Night watch made cinnamon rolls. Left us {few}.
sam>2: Forgiven. ;; tala: I hid yours behind the oats.
== dimitra+noor 8-22
noor: Swap watches on Sunday? I want to see the whole sunrise once. ;; dimitra: You get the sunrise, I get your Friday film.
noor>2: Deal, شكرا. ;; dimitra: Παρακαλώ! I write it to Ann.
== keiko+priya+siobhan+zoe 9-22
zoe: Paper names: who is first on the water mass story? ;; keiko: Hana, honestly. She filtered half an ocean. ;; priya>2: Yes. She must not know until the draft.
siobhan: I can keep a secret. ;; priya: You told the squid. ;; siobhan: The squid went home with it. 🦑
== sam+tala one
sam: {Onions|Butter|Rice} from store {locker}, please, before {+60}. ;; tala: Cabin {room} wants the late plate again.
sam: Reminder: defrost fridge {few} tonight. ;; tala: Clean aprons are in locker {locker}.
== dimitra+noor one
dimitra: Charts for {degrees} north are on the table, your pencil is mine now. ;; noor: Sextant practice at {+60}? {☀️|🌙}
== jonah+keiko one
jonah: Spare connector number {bottle} is on your bench. ;; keiko: Hum is gone since {-30}. You are a wizard. 🪄
keiko: Cable is back on the CTD, cast {cast} looks clean. ありがとう!
== keiko+priya+siobhan+zoe one
siobhan: Tea at {+30}? {Wet lab|Library|Hangar}. ;; keiko: Cast {cast} plots are up: http://192.168.1.24/ctd/{cast}
priya: Sample box {few} is full, next one is under the bench. ;; zoe: Draft of section {few} is on the share, be kind.
'''

DEMO_CLOCK = 14 * 60 + 30
DEMO_LINE = re.compile(r'(\w+)(?:>(\d+))?: (.*)', re.S)
DEMO_FILLING = re.compile(r'\{([^{}]+)\}')
DEMO_ENCLOSURE = re.compile(r' \[(gauge|sea|chart|sky|plot|csv|log) ([\w-]+)\]')


def demo_scenes():
    """Return every DemoScene of DEMO_SCENES; reply counts a scene's lines from 0."""
    scenes = []
    for block in DEMO_SCENES.strip().split('== ')[1:]:
        head, _, body = block.partition('\n')
        channel, hours, marks = read_scene_head(head.split())
        lines = [read_scene_line(line) for line in body.strip().replace('\n', ' ;; ').split(' ;; ')]
        parts = [[line] for line in lines] if 'one' in marks else [lines]
        scenes.extend(DemoScene(channel, hours, marks, part) for part in parts)
    return scenes


def read_scene_head(words):
    """Return (channel, hours of the day, marks) of a heading's words; without hours, the whole day."""
    ranges = [part.split('-') for word in words[1:] if word[0].isdigit() for part in word.split(',')]
    hours = [hour for ends in ranges for hour in range(int(ends[0]), int(ends[-1]) + 1)]
    return words[0], hours or list(range(24)), set(words[1:])


def read_scene_line(line):
    """Return the DemoLine of `speaker>number: text`."""
    speaker, reply, text = DEMO_LINE.fullmatch(line).groups()
    return DemoLine(speaker, int(reply) - 1 if reply else None, text.replace('\\n', '\n'))


def demo_clock(minute):
    """Return a minute of the day, from any number of minutes, as HH:MM."""
    return '%02d:%02d' % divmod(int(minute) % 1440, 60)


def demo_number(chance, low, high, decimals):
    """Return a reading between low and high as text."""
    return '%.*f' % (decimals, chance.uniform(low, high))


def demo_rows(chance, key, clock, count):
    """Return the heading and `count` rows of the table `key`, the last one just before the minute `clock`."""
    table = DEMO_TABLES[key]
    rows = [['time'] + [column[0] for column in table.columns]]
    for number in range(count, 0, -1):
        minute = clock // 10 * 10 - number * table.step
        rows.append([demo_clock(minute)] + [demo_number(chance, *column[1:]) for column in table.columns])
    return rows


def demo_block(rows):
    """Return rows as a fenced block with aligned columns."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return '\n'.join(['```'] + lines + ['```'])


def demo_table(rows):
    """Return rows as a markup table."""
    lines = ['| ' + ' | '.join(row) + ' |' for row in rows]
    return '\n'.join(lines[:1] + ['|' + '---|' * len(rows[0])] + lines[1:])


DEMO_LAYOUTS = {'block': demo_block, 'table': demo_table}


class DemoTelling:
    """One telling of a scene: who plays whom, and the numbers they talk about."""

    def __init__(self, chance, scene, voices, days_ago):
        self.chance = chance
        self.cast = self.choose_cast(scene, list(voices))
        self.readings = {word: '%.*f' % (decimals, value + change * days_ago)
                         for word, (value, change, decimals) in DEMO_PROGRESS.items()}

    def choose_cast(self, scene, voices):
        """Return letter -> username; people who speak for themselves play nobody else if there are others."""
        named = {line.speaker for line in scene.lines}
        self.chance.shuffle(voices)
        voices.sort(key=lambda username: username in named)
        return dict(zip('ABCD', voices))

    def author(self, line):
        """Return the username of a line's speaker."""
        return self.cast.get(line.speaker, line.speaker)

    def fill(self, text, clock):
        """Return the text with every {filling} and every @letter replaced, as said at the minute `clock`."""
        while DEMO_FILLING.search(text):
            text = DEMO_FILLING.sub(lambda match: self.filling(match.group(1), clock), text)
        return re.sub(r'@([A-D])\b', lambda match: '@' + self.cast[match.group(1)], text)

    def filling(self, word, clock):
        """Return what stands for {word}: a choice, a name, a time, a table or a reading."""
        if '|' in word:
            return self.chance.choice(word.split('|'))
        if word in self.cast:
            return DEMO_GIVEN_NAMES[self.cast[word]]
        if word == 'now':
            return demo_clock(clock)
        if word[0] in '+-':
            return demo_clock((clock + int(word)) // 10 * 10)
        if ' ' in word:
            layout, key = word.split()
            return DEMO_LAYOUTS[layout](demo_rows(self.chance, key, clock, self.chance.randint(3, 5)))
        return self.reading(word)

    def reading(self, word):
        """Return the scene's number for {word}, drawn on first use."""
        if word not in self.readings:
            self.readings[word] = demo_number(self.chance, *DEMO_READINGS[word])
        return self.readings[word]

    def enclosures(self, text, clock):
        """Return (text without its enclosures, pictures, attachments)."""
        pictures, attachments = [], []
        for kind, name in DEMO_ENCLOSURE.findall(text):
            stamp, seed = demo_clock(clock).replace(':', ''), self.chance.randrange(1 << 30)
            if kind in DEMO_FILES:
                attachments.append(('%s-%s.%s' % (name, stamp, kind), (kind, name, seed, int(clock) % 1440)))
            else:
                pictures.append(('%s-%s.png' % (name, stamp), kind, seed))
        return DEMO_ENCLOSURE.sub('', text), tuple(pictures), tuple(attachments)


DEMO_GIVEN_NAMES = {person.username: person.display_name.split()[0] for person in DEMO_PEOPLE}


class DemoDiary:
    """Finds a time for each scene of one channel: in its hours, apart from others and far from its own last telling."""

    def __init__(self, chance, clock):
        self.chance = chance
        self.clock = clock
        self.taken = []
        self.told = {}

    def times(self, scene, key):
        """Return the minutes ago of each line, descending."""
        waits = [0] + [self.wait() for _ in scene.lines[1:]]
        length = math.fsum(waits)
        starts = [length + self.chance.uniform(0.5, 2)] if 'final' in scene.marks else \
            [self.start(scene, length) for _ in range(24)]
        start = max(starts, key=lambda minute: self.distance(minute, length, key))
        self.taken.append((start, start - length))
        self.told.setdefault(key, []).append(start)
        return [round(start - math.fsum(waits[:place + 1]), 2) for place in range(len(waits))]

    def wait(self):
        """Return the minutes before an answer: mostly a minute or two, now and then a quarter of an hour."""
        pause = self.chance.uniform(3, 15) if self.chance.random() < 0.12 else 0
        return pause + self.chance.uniform(0.3, 3.2)

    def start(self, scene, length):
        """Return the minutes ago at which the scene may begin, so that it has ended by now."""
        weights = [DEMO_BUSY_HOURS[hour] for hour in scene.hours]
        hour = self.chance.choices(scene.hours, weights)[0]
        minute = hour * 60 + self.chance.uniform(0, 60)
        ago = self.chance.randrange(DEMO_DAYS) * 1440 + (self.clock - minute) % 1440
        return ago if ago > length + 6 else ago + 1440

    def distance(self, start, length, key):
        """Return how good a start is: minutes from the scene's other tellings, negative where scenes would mix."""
        apart = min([abs(start - other) for other in self.told.get(key, ())] or [1 << 20])
        mixes = any(end - 8 < start and start - length < begin + 8 for begin, end in self.taken)
        return -1 if mixes else apart


def demo_programme(chance, scenes, count):
    """Yield scenes in shuffled rounds until exactly `count` lines are spent; some scene must have a single line."""
    ends = [scene for scene in scenes if 'final' in scene.marks and len(scene.lines) <= count]
    count -= sum(len(scene.lines) for scene in ends)
    yield from ends
    stock = [scene for scene in scenes if 'final' not in scene.marks for _ in range(3 if 'often' in scene.marks else 1)]
    while count:
        chance.shuffle(stock)
        for scene in stock:
            if len(scene.lines) <= count:
                count -= len(scene.lines)
                yield scene


def demo_shares(count):
    """Return channel key -> number of messages; engine-room takes what rounding leaves."""
    total = sum(channel.share for channel in DEMO_CHANNELS)
    shares = {channel.key: channel.share * count // total for channel in DEMO_CHANNELS}
    shares['engine-room'] += count - sum(shares.values())
    return shares


def demo_channel_messages(chance, channel, count, clock):
    """Return `count` (number of the telling, place in it, DemoMessage); reply_to is still such a place."""
    scenes = [scene for scene in demo_scenes() if scene.channel == channel.key]
    diary, messages = DemoDiary(chance, clock), []
    for number, scene in enumerate(demo_programme(chance, scenes, count)):
        times = diary.times(scene, scene.lines[0].text)
        telling = DemoTelling(chance, scene, channel.voices, times[0] / 1440)
        for place, (line, ago) in enumerate(zip(scene.lines, times)):
            text, pictures, attachments = telling.enclosures(telling.fill(line.text, clock - ago), clock - ago)
            message = DemoMessage(channel.key, telling.author(line), ago, text, line.reply, pictures, attachments)
            messages.append(((channel.key, number), place, message))
    return messages


def demo_messages(chance, count=2000, clock=DEMO_CLOCK):
    """Return `count` DemoMessages of the last two weeks, oldest first.

    chance is a random.Random; clock is the minute of the day at which the story ends, for the daily rhythm and the
    times in the texts. minutes_ago is a float; reply_to an index into the list or None; pictures are (file name,
    kind, seed) for draw_picture, attachments (file name, spec) for demo_attachment.
    """
    shares = demo_shares(count)
    told = [entry for channel in DEMO_CHANNELS
            for entry in demo_channel_messages(chance, channel, shares[channel.key], clock)]
    told.sort(key=lambda entry: (-entry[2].minutes_ago, entry[0], entry[1]))
    index = {(scene, place): position for position, (scene, place, _) in enumerate(told)}
    return [message._replace(reply_to=index.get((scene, message.reply_to))) for scene, _, message in told]


def demo_csv(rows):
    """Return rows as a CSV file (RFC 4180)."""
    sheet = io.StringIO(newline='')
    csv.writer(sheet).writerows(rows)
    return sheet.getvalue()


def demo_log(rows):
    """Return rows as a log file, one `time name=value` line each."""
    return ''.join('%s  %s\n' % (row[0], '  '.join('%s=%s' % pair for pair in zip(rows[0][1:], row[1:]))) for row in rows[1:])


DEMO_FILES = {'csv': demo_csv, 'log': demo_log}


def demo_attachment(spec):
    """Return the bytes of an attachment's (format, table, seed, minute of the day)."""
    kind, key, seed, clock = spec
    return DEMO_FILES[kind](demo_rows(random.Random(seed), key, clock, 48)).encode('utf-8')


# -- pictures

DEMO_DIGITS = {sign: shape.split() for sign, shape in zip('0123456789.-', (
    '### #.# #.# #.# ###', '.#. ##. .#. .#. ###', '### ..# ### #.. ###', '### ..# ### ..# ###', '#.# #.# ### ..# ..#',
    '### #.. ### ..# ###', '### #.. ### #.# ###', '### ..# .#. .#. .#.', '### #.# ### #.# ###', '### #.# ### ..# ###',
    '... ... ... ... .#.', '... ... ### ... ...'))}
DEMO_HOURS_OF_LIGHT = (  # upper sky, lower sky, sun, near sea, far sea
    ((38, 70, 120), (246, 178, 120), (255, 232, 178), (20, 44, 66), (150, 120, 112)),
    ((92, 158, 206), (214, 232, 238), (255, 252, 232), (18, 78, 102), (112, 168, 184)),
    ((50, 40, 86), (226, 108, 80), (255, 206, 132), (22, 26, 52), (140, 76, 84)),
    ((88, 102, 114), (188, 196, 196), (226, 228, 222), (34, 56, 62), (126, 142, 144)))
DEMO_SONAR = ((0, (10, 14, 46)), (70, (24, 74, 140)), (120, (44, 160, 160)), (165, (240, 206, 84)), (210, (214, 78, 40)),
              (255, (96, 14, 20)))
DEMO_INK, DEMO_LINES = (92, 104, 108), ((11, 101, 112), (179, 74, 45), (47, 74, 136))


def mix_colors(first, second, share):
    """Return the colour that lies `share` (0 to 1) of the way from first to second."""
    return tuple(int(one + (two - one) * share) for one, two in zip(first, second))


class DemoCanvas:
    """An RGB picture with one primitive, the convex shape; drawing units are those of a 640 by 400 picture."""

    def __init__(self, width, height):
        self.width, self.height = width, height
        self.across, self.down = width / 640, height / 400
        self.rows = [bytearray(3 * width) for _ in range(height)]

    def fill(self, top, bottom, first, second):
        """Paint the full width between two heights with a gradient."""
        low, high = round(top * self.down), round(bottom * self.down)
        for y in range(low, min(high, self.height)):
            self.rows[y][:] = bytes(mix_colors(first, second, (y - low) / (high - low))) * self.width

    def blend(self, y, left, right, color, opacity):
        """Lay a colour over the pixels left to right of a row."""
        if opacity >= 1:
            self.rows[y][3 * left:3 * right] = bytes(color) * (right - left)
            return
        for channel, value in enumerate(color):
            table = bytes(int(old + (value - old) * opacity) for old in range(256)) if right - left > 40 else None
            part = self.rows[y][3 * left + channel:3 * right:3]
            self.rows[y][3 * left + channel:3 * right:3] = part.translate(table) if table else \
                bytes(int(old + (value - old) * opacity) for old in part)

    def span(self, y, left, right, color, opacity):
        """Lay a colour between two fractional places of a row, softly at the ends."""
        left, right = max(left, 0), min(right, self.width)
        if right <= left:
            return
        first, last = math.ceil(left), math.floor(right)
        if first > last:
            return self.blend(y, last, last + 1, color, opacity * (right - left))
        self.blend(y, first, last, color, opacity) if last > first else None
        self.blend(y, first - 1, first, color, opacity * (first - left)) if first > left else None
        self.blend(y, last, last + 1, color, opacity * (right - last)) if right > last else None

    def shape(self, points, color, opacity=1):
        """Paint the convex polygon through the points."""
        points = [(x * self.across, y * self.down) for x, y in points]
        edges = [(one, two) for one, two in zip(points, points[1:] + points[:1]) if one[1] != two[1]]
        top = max(0, math.floor(min(y for _, y in points)))
        for y in range(top, min(self.height, math.ceil(max(y for _, y in points)))):
            middle = y + 0.5
            places = [one[0] + (two[0] - one[0]) * (middle - one[1]) / (two[1] - one[1]) for one, two in edges
                      if min(one[1], two[1]) <= middle < max(one[1], two[1])]
            if places:
                self.span(y, min(places), max(places), color, opacity)

    def box(self, x, y, width, height, color, opacity=1):
        """Paint a rectangle."""
        self.shape([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], color, opacity)

    def oval(self, x, y, wide, high, color, opacity=1):
        """Paint an ellipse around a middle."""
        turns = [math.pi * 2 * step / 48 for step in range(48)]
        self.shape([(x + wide * math.cos(turn), y + high * math.sin(turn)) for turn in turns], color, opacity)

    def ripple(self, x, y, wide, high, color, opacity):
        """Paint a flat lozenge around a middle."""
        self.shape([(x - wide, y), (x, y - high), (x + wide, y), (x, y + high)], color, opacity)

    def line(self, start, end, thickness, color, opacity=1):
        """Paint a straight stroke."""
        length = math.hypot(end[0] - start[0], end[1] - start[1]) or 1
        x, y = (start[1] - end[1]) / length * thickness / 2, (end[0] - start[0]) / length * thickness / 2
        self.shape([(start[0] + x, start[1] + y), (end[0] + x, end[1] + y), (end[0] - x, end[1] - y),
                    (start[0] - x, start[1] - y)], color, opacity)

    def digits(self, x, y, text, color, size=2.5):
        """Write a number, three by five dots a digit."""
        for place, sign in enumerate(text):
            dots = [(column, row) for row, shape in enumerate(DEMO_DIGITS[sign])
                    for column in range(3) if shape[column] == '#']
            for column, row in dots:
                self.box(x + (place * 4 + column) * size, y + row * size, size, size, color)

    def png(self):
        """Return the picture as a PNG file."""
        return png_file(self.width, self.rows)


def draw_gauge(canvas, chance):
    """A brass dial on a pipe, in a dim engine room."""
    canvas.fill(0, 400, (44, 58, 60), (14, 22, 24))
    for _ in range(14):
        color = chance.choice(((240, 180, 58), (60, 130, 136), (120, 60, 40)))
        canvas.oval(chance.uniform(0, 640), chance.uniform(0, 230), *[chance.uniform(14, 44)] * 2, color=color, opacity=0.13)
    canvas.fill(290, 306, (16, 58, 62), (60, 160, 160))
    canvas.fill(306, 366, (60, 160, 160), (8, 36, 40))
    canvas.fill(366, 380, (8, 22, 24), (14, 22, 24))
    for x in (96, 500):
        canvas.box(x, 280, 34, 96, (150, 158, 158))
        canvas.box(x, 280, 12, 96, (206, 212, 210), 0.7)
    middle = 320 + chance.uniform(-40, 40)
    canvas.box(middle - 17, 250, 34, 46, (140, 104, 40))
    canvas.oval(middle + 6, 160, 128, 128, (0, 0, 0), 0.3)
    for radius, color in ((126, (120, 82, 24)), (122, (232, 184, 92)), (112, (150, 108, 40)), (107, (246, 243, 234))):
        canvas.oval(middle, 152, radius, radius, color)
    draw_dial(canvas, middle, chance.uniform(0.15, 0.95))


def draw_dial(canvas, middle, value):
    """Ticks, numbers and the needle; value from 0 to 1."""
    def around(share, radius):
        turn = math.pi * (0.75 + 1.5 * share)
        return middle + radius * math.cos(turn), 152 + radius * math.sin(turn)
    for tick in range(51):
        color = (31, 138, 85) if tick < 38 else (191, 58, 29)
        canvas.line(around(tick / 50, 94), around(tick / 50, 101), 9, color)
        canvas.line(around(tick / 50, 76 if tick % 10 == 0 else 84), around(tick / 50, 91), 3 if tick % 10 == 0 else 1.6, (40, 48, 50))
    for number in range(6):
        x, y = around(number / 5, 62)
        canvas.digits(x - 5, y - 7, str(number), (40, 48, 50), 2.8)
    canvas.line(around(value, -26), around(value, 84), 6, (178, 48, 24))
    canvas.oval(middle, 152, 12, 12, (60, 66, 66))
    canvas.oval(middle - 2, 149, 5, 5, (190, 196, 194))


def draw_sea(canvas, chance):
    """Horizon, waves and a low sun."""
    upper, lower, sun, near, far = chance.choice(DEMO_HOURS_OF_LIGHT)
    horizon, x = chance.uniform(170, 220), chance.uniform(140, 500)
    height = horizon - chance.uniform(14, 90)
    canvas.fill(0, horizon, upper, lower)
    for _ in range(9):
        canvas.oval(chance.uniform(0, 640), chance.uniform(20, horizon - 40), chance.uniform(60, 190), chance.uniform(3, 11), sun, 0.16)
    for radius in (150, 110, 80, 58, 42):
        canvas.oval(x, height, radius, radius, sun, 0.11)
    canvas.oval(x, height, 30, 30, sun)
    canvas.fill(horizon, 400, far, near)
    for _ in range(900):
        y = horizon + (400 - horizon) * chance.random() ** 1.6
        scale = (y - horizon) / 200 + 0.06
        place, wide = chance.uniform(-20, 660), chance.uniform(14, 60) * scale
        canvas.ripple(place, y, wide, 4.5 * scale, chance.choice((near, near, lower)), 0.3)
    for _ in range(260):
        y = horizon + 1 + (396 - horizon) * chance.random() ** 1.3
        scale = (y - horizon) / 200 + 0.1
        canvas.ripple(chance.gauss(x, 14 + 50 * scale), y, chance.uniform(8, 30) * scale, 3 * scale, sun, 0.6)


def draw_sky(canvas, chance):
    """A night with stars, the Milky Way and an aurora above a dark sea, with a ship."""
    canvas.fill(0, 330, (6, 10, 30), (28, 52, 78))
    slope, height = chance.uniform(-0.5, 0.5), chance.uniform(110, 190)
    for _ in range(70):
        x = chance.uniform(-20, 660)
        canvas.oval(x, height + slope * (x - 320) + chance.gauss(0, 26), chance.uniform(14, 60), chance.uniform(8, 26), (150, 160, 205), 0.045)
    draw_aurora(canvas, chance)
    for _ in range(480):
        size, light = chance.choice((1, 1, 1.2, 1.6, 2.4)), chance.uniform(0.3, 1)
        canvas.box(chance.uniform(0, 640), chance.uniform(0, 326), size, size, chance.choice(((255, 255, 255), (206, 222, 255), (255, 232, 200))), light)
    canvas.fill(330, 400, (14, 30, 44), (4, 8, 14))
    mast, night = chance.uniform(420, 540), (3, 6, 10)
    canvas.shape([(mast - 150, 400), (mast - 170, 366), (mast + 150, 360), (mast + 130, 400)], night)
    canvas.shape([(mast - 80, 366), (mast - 66, 322), (mast + 44, 322), (mast + 60, 366)], night)
    canvas.shape([(mast - 5, 330), (mast - 2, 190), (mast + 2, 190), (mast + 5, 330)], night)
    for x, y in ((mast - 160, 366), (mast + 146, 362)):
        canvas.line((mast, 196), (x, y), 1.4, night)
    for y, wide in ((226, 14), (252, 24), (286, 30)):
        canvas.box(mast - wide, y, 2 * wide, 3, night)
    for place in range(6):
        canvas.box(mast - 54 + place * 17, 333, 7, 6, (240, 190, 110), 0.8)
    for radius, light in ((12, 0.15), (6, 0.3), (2.5, 1)):
        canvas.oval(mast, 190, radius, radius, (255, 226, 160), light)


def draw_aurora(canvas, chance):
    """Green curtains of light."""
    phase = chance.uniform(0, 6)
    feet = [(x, 210 + 46 * math.sin(x / 90 + phase) + 18 * math.sin(x / 31 + phase),
             110 + 50 * math.sin(x / 23 + phase * 2)) for x in range(0, 651, 8)]
    for (left, foot, tall), (right, next_foot, next_tall) in zip(feet, feet[1:]):
        for part, color in ((1, (96, 70, 160)), (0.7, (50, 180, 130)), (0.35, (110, 240, 160))):
            canvas.shape([(left, foot - tall * part), (right, next_foot - next_tall * part), (right, next_foot), (left, foot)],
                         color, 0.2)


def draw_chart(canvas, chance):
    """Three curves of readings over a grid."""
    canvas.fill(0, 400, (252, 251, 248), (252, 251, 248))
    step = chance.choice((1, 2, 5, 10, 25))
    for number in range(6):
        y = 348 - number * 60
        canvas.box(60, y, 552, 1.2, (222, 217, 208))
        label = str(number * step)
        canvas.digits(46 - 10 * len(label), y - 6, label, DEMO_INK)
    for hour in range(0, 25, 4):
        canvas.box(60 + hour * 23, 348, 1.2, 7, DEMO_INK)
        canvas.digits(60 + hour * 23 - 5 * len(str(hour)), 364, str(hour), DEMO_INK)
    for color in DEMO_LINES:
        value, points, phase = chance.uniform(110, 290), [], chance.uniform(0, 6)
        for place in range(97):
            value = min(325, max(64, value + chance.gauss(0, 5) + 2.4 * math.sin(place / 12 + phase)))
            points.append((60 + place * 5.75, value))
        for start, end in zip(points, points[1:]):
            canvas.line(start, end, 3, color)
        canvas.oval(*points[-1], wide=5, high=5, color=color)
    canvas.box(60, 348, 552, 1.6, DEMO_INK)


def sonar_palette():
    """Return 256 colours for echo strengths, two pixels wide each."""
    colors = []
    for (low, first), (high, second) in zip(DEMO_SONAR, DEMO_SONAR[1:]):
        colors.extend(bytes(mix_colors(first, second, (value - low) / (high - low))) * 2 for value in range(low, high))
    return colors + [bytes(DEMO_SONAR[-1][1]) * 2]


def draw_plot(canvas, chance):
    """An echogram: noise, scattering layers, a fish school or two and the sea floor."""
    palette, columns = sonar_palette(), (canvas.width + 1) // 2
    phase, floor, layer = chance.uniform(0, 6), chance.uniform(250, 310), chance.uniform(70, 130)
    waves = [math.sin(x / 47 + phase) * 18 + math.sin(x / 17 + phase * 2) * 5 for x in range(columns)]
    depths = [floor + 1.6 * wave + chance.gauss(0, 1) for wave in waves]
    layers = [layer - wave * 0.8 + 24 * math.sin(x / 130 + phase) for x, wave in enumerate(waves)]
    noise = [chance.randrange(38) for _ in range(4096)]
    for top in range(0, canvas.height, 2):
        y, shift = top / canvas.down, chance.randrange(4096)
        row = [noise[(shift + x) & 4095] + sonar_echo(y, depths[x], layers[x]) for x in range(columns)]
        pixels = b''.join([palette[min(value, 255)] for value in row])[:3 * canvas.width]
        for line in canvas.rows[top:top + 2]:
            line[:] = pixels
    for _ in range(chance.randint(2, 5)):
        x, y, wide = chance.uniform(60, 560), chance.uniform(120, 215), chance.uniform(10, 34)
        for share, color in ((1, (44, 160, 160)), (0.7, (240, 206, 84)), (0.4, (214, 78, 40))):
            canvas.oval(x, y, wide * share, wide * 0.45 * share, color, 0.75)
    for number in range(1, 5):
        canvas.box(0, number * 80, 640, 1, (255, 255, 255), 0.25)
        canvas.digits(8, number * 80 - 16, str(number * 50), (255, 255, 255))


def sonar_echo(y, depth, layer):
    """Return the echo strength at a height, above or below the floor."""
    if y > depth:
        return max(int(225 - (y - depth) * 2.4), 20)
    away = abs(y - layer)
    return int(120 - away * 4) if away < 30 else 8


DEMO_PICTURES = {'gauge': draw_gauge, 'sea': draw_sea, 'chart': draw_chart, 'sky': draw_sky, 'plot': draw_plot}


def draw_picture(kind, seed, width=640, height=400):
    """Return a PNG file of one of the DEMO_PICTURES, always the same for the same arguments."""
    canvas = DemoCanvas(width, height)
    DEMO_PICTURES[kind](canvas, random.Random(seed))
    return canvas.png()


# -- into a folder

DEMO_STATUSES = (('jonah', '🔧', 'On watch until 16:00'), ('lena', '🩺', 'In the sick bay'), ('eyal', '😴', 'Asleep after nights'),
                 ('sigrun', '🤖', 'Piloting, please no calls'), ('sam', '🍲', 'In the galley'))
DEMO_VARIANTS = 3
DEMO_REACTIONS = '👍👍👍👀👀✅✅😄🎉☕🙏'
DEMO_REACTION_RATE, DEMO_PIN_RATE = .12, .08      # of all messages, of those with files
DEMO_PASSWORD = 'anchors aweigh'
DEMO_READER = 'jonah'            # who has unread messages


class DemoFolder:
    """Writes the demonstration into the empty store of an app."""

    def __init__(self, app, chance):
        self.app, self.chance, self.now = app, chance, app.clock.now()
        self.users, self.channels, self.messages, self.pictures = {}, {}, [], collections.defaultdict(list)

    def fill(self, change):
        self.now = change.now
        self._make_people(change)
        self._make_channels(change)
        clock = time.localtime(self.now / 1000)
        for number, message in enumerate(demo_messages(self.chance, clock=clock.tm_hour * 60 + clock.tm_min)):
            self._post(change, number, message)
        change.execute('UPDATE members SET read_to = (SELECT max(id) FROM messages)')
        for key, unread in (('engine-room', 3), ('science-lab', 5), ('all-hands', 2), ('ann+jonah', 1)):
            self._leave_unread(change, self.channels[key], unread)

    def _make_people(self, change):
        hashed = self.app.passwords.hash(DEMO_PASSWORD)
        for person in DEMO_PEOPLE:
            user_id = self.users[person.username] = add_account(self.app, change, person.username, hashed, person.role)
            change.update('users', user_id, display_name=person.display_name, title=person.title, color=person.color,
                          bio=person.bio)
        for username, emoji, text in DEMO_STATUSES:
            status = json.dumps({'emoji': emoji, 'text': text, 'until': None})
            change.update('users', self.users[username], status=status)

    def _make_channels(self, change):
        owner = self.users['ann']
        for channel in DEMO_CHANNELS:
            self.channels[channel.key] = channel_id = self._make_channel(change, channel, owner)
            for username in channel.members:
                add_member(change, channel_id, self.users[username])

    def _make_channel(self, change, channel, owner):
        if channel.kind == 'direct':
            people = sorted(self.users[username] for username in channel.members)
            return add_channel(change, 'direct', owner, direct_key='-'.join(map(str, people)))
        row = change.execute('SELECT id FROM channels WHERE name_key = ?', (channel.key,)).fetchone()
        channel_id = row['id'] if row else add_channel(change, channel.kind, owner, name=channel.key)
        change.update('channels', channel_id, topic=channel.topic)
        return channel_id

    def _post(self, change, number, message):
        author, channel_id = self.users[message.author], self.channels[message.channel]
        files = [self._keep_picture(change, author, *picture) for picture in message.pictures]
        files += [self._keep_file(change, author, name, demo_attachment(spec)) for name, spec in message.attachments]
        mentions = find_mentions(change, message.text, channel_id, True)
        message_id = change.insert(
            'messages', channel_id=channel_id, user_id=author, kind='text', client_id='demo-%06d' % number,
            text=message.text, mentions=json.dumps(mentions), attached=len(files),
            reply_to=None if message.reply_to is None else self.messages[message.reply_to],
            created_at=self.now - int(message.minutes_ago * 60000))
        self.messages.append(message_id)
        attach(change, author, 'member', message_id, files)
        store_mentions(change, message_id, channel_id, mentions)
        if self.chance.random() < DEMO_REACTION_RATE:
            self._react(change, message_id, channel_id)
        if files and self.chance.random() < DEMO_PIN_RATE:
            change.update('messages', message_id, pinned_at=self.now)

    def _react(self, change, message_id, channel_id):
        members = [row['user_id'] for row in change.execute('SELECT user_id FROM members WHERE channel_id = ?', (channel_id,))]
        change.update('messages', message_id, reacted=1)
        for _ in range(self.chance.randint(1, 5)):
            change.execute('INSERT OR IGNORE INTO reactions (message_id, emoji, user_id) VALUES (?, ?, ?)',
                           (message_id, self.chance.choice(DEMO_REACTIONS), self.chance.choice(members)))

    def _keep_picture(self, change, author, name, kind, seed):
        """Pictures are drawn in a few variants that come in turn, since drawing takes its time."""
        variants = self.pictures[kind]
        if len(variants) < DEMO_VARIANTS:
            variants.append(draw_picture(kind, seed))
        else:
            variants.append(variants.pop(0))
        return self._keep_file(change, author, name, variants[-1])

    def _keep_file(self, change, author, name, content):
        key = token(self.app.random_bytes, 18)
        with open(self.app.file_path(key), 'wb') as file:
            file.write(content)
        file_type = type_by_bytes(content[:4096])
        width, height = image_size(io.BytesIO(content), file_type)
        return change.insert('files', key=key, user_id=author, name=name, type=file_type, size=len(content), width=width,
                             height=height, created_at=self.now, created_second=0)

    def _leave_unread(self, change, channel_id, count):
        change.execute('UPDATE members SET read_to = (SELECT id FROM messages WHERE channel_id = ? ORDER BY id DESC '
                       'LIMIT 1 OFFSET ?) WHERE channel_id = ? AND user_id = ?',
                       (channel_id, count, channel_id, self.users[DEMO_READER]))


def fill_demo_folder(folder, settings):
    if os.path.exists(os.path.join(folder, DATABASES[0][1])):
        raise Trouble('There is a chat in %s already; --data names an empty folder for the demonstration.' % folder)
    app = App(folder, settings, plain=True)
    app.open()
    app.store.write(DemoFolder(app, random.Random(7)).fill)
    app.forget_setup_code()
    app.close()


@command('demo', *SERVE_ARGUMENTS)
def demo(options):
    """Serve a ship's crew with two weeks of talk, from an empty folder or, without --data, from a passing one."""
    with tempfile.TemporaryDirectory() as folder:
        if options.data == DATA_FOLDER:
            options.data = os.path.join(folder, 'data')
        settings = serving_settings(options)
        settings.name = DEMO_NAME
        fill_demo_folder(options.data, settings)
        print('Sign in as %s (or %s, the owner) with the password: %s\n' % (DEMO_READER, 'ann', DEMO_PASSWORD))
        serve_with(options, settings)


# ---- 33. BENCH -------------------------------------------------------
#
# The chat as people feel it, beside a floor: a bare loop of the standard library that passes on the same bytes over
# TLS and does nothing else, measured in the same run. On a slow or busy machine both are slow, and the ratio stays.

BENCH_PASSWORD = 'measure twice, cut once'
BENCH_PEOPLE, BENCH_MESSAGES, BENCH_UNREAD = 1000, 10 ** 6, 10 ** 5
BENCH_CHANNELS = 20              # of the folder with a million messages
BENCH_PIECE = 50000              # messages written in one commit
BENCH_FILE = bytes(range(256)) * 78125       # 20 MB
FULL_SPEED_SECONDS = 3           # that a rate is measured for
BUSY_SECONDS = 12
LOST_SECONDS = 30                # after which a message that was not heard is lost

Part = collections.namedtuple('Part', 'name place measure has_floor figures')
Figure = collections.namedtuple('Figure', 'words unit goal')

CONTENT_LENGTH = re.compile(rb'Content-Length: (\d+)')
TOLD_CURSOR = re.compile(rb'{"cursor":"([^"]+)"')
TOLD_MESSAGE = re.compile(rb'"client_id":"([^"]+)"')


# -- who asks

class Peer:
    """One keep-alive connection of the benchmark: requests go out whole, answers come in whole."""

    def __init__(self, port, cookie='', plain=False):
        self.socket, self.cookie, self.buffer = socket.create_connection(('127.0.0.1', port)), cookie, b''
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not plain:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)

    def send(self, method, path, body=b'', content_type='application/json'):
        self.socket.sendall(('%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nX-MiniMost: 1\r\nCookie: %s\r\nContent-Type: %s\r\n'
                             'Accept-Encoding: gzip\r\nContent-Length: %d\r\n\r\n' % (
                                 method, path, self.cookie, content_type, len(body))).encode('ascii') + body)

    def receive(self):
        """The head and the body of an answer, or None while it is not complete."""
        try:
            piece = self.socket.recv(65536)
        except ssl.SSLWantReadError:
            return None
        if not piece:
            raise Trouble('The server closed a connection in the middle of the benchmark.')
        self.buffer += piece
        end = self.buffer.find(b'\r\n\r\n') + 4
        length = CONTENT_LENGTH.search(self.buffer, 0, end)
        size = end + (int(length.group(1)) if length else 0)
        if end < 4 or len(self.buffer) < size:
            return None
        answer, self.buffer = (self.buffer[:end], self.buffer[end:size]), self.buffer[size:]
        return answer

    def ask(self, method, path, value=None):
        """One request and its answer, waited for; returns the head and the body."""
        return self.ask_raw(method, path, b'' if value is None else encode(value))

    def ask_raw(self, method, path, body=b'', content_type='application/json'):
        self.send(method, path, body, content_type)
        return self.expect()

    def expect(self):
        """Wait for an answer."""
        answer = None
        while answer is None:
            answer = self.receive()
        if not answer[0].startswith(b'HTTP/1.1 2'):
            raise Trouble('The server answered %s.' % answer[0][9:60].partition(b'\r')[0].decode('latin-1'))
        return answer

    def take_file(self, path):
        """Download, and let go of what comes."""
        self.send('GET', path)
        piece, head = memoryview(bytearray(PIECE)), b''
        while b'\r\n\r\n' not in head:
            head += self.socket.recv(PIECE)
        left = int(CONTENT_LENGTH.search(head).group(1)) - len(head.partition(b'\r\n\r\n')[2])
        while left:
            left -= self.socket.recv_into(piece)


class Crowd:
    """Many peers that wait in polls, watched together."""

    def __init__(self, subject, count):
        self.selector, self.sender = selectors.DefaultSelector(), subject.peer(0)
        cursor = TOLD_CURSOR.search(self.sender.ask('GET', '/poll?after=none')[1]).group(1)
        self.peers = [subject.peer(number) for number in range(count)]
        for peer in self.peers:
            peer.socket.setblocking(False)
            self.selector.register(peer.socket, selectors.EVENT_READ, peer)
            self.poll(peer, cursor)
        self.settle(1.3)                     # longer than presence is held back

    @staticmethod
    def poll(peer, cursor):
        peer.send('GET', '/poll?after=' + cursor.decode('ascii'))

    def answers(self, timeout):
        """The answers that have come: peer, body."""
        for key, _ in self.selector.select(timeout):
            answer = key.data.receive()
            if answer is not None:
                yield key.data, answer[1]

    def go_round(self, timeout):
        """Take the answers that have come and poll again; returns (client_id, when it came) of each message told."""
        told, answered = [], 0
        for peer, body in self.answers(timeout):
            at, answered = time.perf_counter(), answered + 1
            told += [(client_id, at) for client_id in TOLD_MESSAGE.findall(body)]
            self.poll(peer, TOLD_CURSOR.match(body).group(1))
        return told if answered else None

    def settle(self, quiet):
        """Let the polls go round until nothing more comes; returns what was told."""
        told, more = [], self.go_round(quiet)
        while more is not None:
            told += more
            more = self.go_round(quiet)
        return told

    def deliver(self, client_id):
        """Post a message; returns the seconds after which each peer had it, in order of arrival.

        They poll again once all have it: on machines of their own they would not take each other's time.
        """
        self.sender.ask('GET', '/poll?after=none')       # by now the server has all the polls
        begun, times, heard = time.perf_counter(), [], {}
        self.sender.send(*post_request(client_id))
        while len(heard) < len(self.peers):
            for peer, body in self.answers(1):
                if client_id.encode('ascii') in body and peer not in heard:
                    times.append(time.perf_counter() - begun)
                    heard[peer] = TOLD_CURSOR.match(body).group(1)
                else:
                    self.poll(peer, TOLD_CURSOR.match(body).group(1))
            if time.perf_counter() - begun > LOST_SECONDS:
                raise Trouble('Not everybody heard a message within %d seconds.' % LOST_SECONDS)
        self.sender.expect()
        for peer, cursor in heard.items():
            self.poll(peer, cursor)
        return times

    def close(self):
        for peer in self.peers + [self.sender]:
            peer.socket.close()
        self.selector.close()


def post_request(client_id):
    return 'POST', '/channels/1/messages', encode({'text': 'How long does this take?', 'client_id': client_id})


# -- who answers

class Subject:
    """A process that is measured: its port, what it costs, and peers that come with the cookies of different people."""

    def __init__(self, process, port, cookies, plain=False):
        self.process, self.port, self.cookies, self.plain = process, port, cookies, plain
        self.names, self.numbers = 'bench-%d' % (1000 * time.time()), itertools.count()

    def peer(self, number):
        return Peer(self.port, self.cookies[number % len(self.cookies)], self.plain)

    def new_name(self):
        return '%s-%06d' % (self.names, next(self.numbers))

    def memory(self):
        """Resident KiB; 0 where there is no /proc."""
        with contextlib.suppress(FileNotFoundError), open('/proc/%d/status' % self.process.pid, encoding='ascii') as file:
            return int(re.search(r'VmRSS:\s+(\d+)', file.read()).group(1))
        return 0

    def processor_seconds(self):
        with contextlib.suppress(FileNotFoundError), open('/proc/%d/stat' % self.process.pid, encoding='ascii') as file:
            fields = file.read().rpartition(') ')[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
        return 0


class Floor:
    """The least that serving polls over TLS can be: one thread, one selector, nothing checked and nothing kept.

    Its only cursor is 0; what has no cursor of its own is answered at once.
    """

    def __init__(self, folder):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(os.path.join(folder, 'cert.pem'), os.path.join(folder, 'key.pem'))
        self.selector, self.waiting, self.listening = selectors.DefaultSelector(), [], socket.socket()
        self.listening.bind(('127.0.0.1', 0))
        self.listening.listen(128)
        self.selector.register(self.listening, selectors.EVENT_READ, self.accept)

    def run(self):
        while True:
            for key, _ in self.selector.select():
                key.data(key.fileobj)

    def accept(self, listening):
        sock = listening.accept()[0]
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.selector.register(self.context.wrap_socket(sock, server_side=True), selectors.EVENT_READ, self.answer)

    def answer(self, sock):
        try:
            request = sock.recv(65536)
        except OSError:
            request = b''
        if not request:
            self.selector.unregister(sock)
        elif request.startswith(b'GET /poll?after=0'):
            self.waiting.append(sock)
        elif request.startswith(b'POST /channels'):
            self.pass_on(request.partition(b'\r\n\r\n')[2])
            self.reply(sock, b'{}')
        elif request.startswith(b'POST /files'):
            self.take_file(sock, request)
        else:
            self.reply(sock, BENCH_FILE if request.startswith(b'GET /files') else b'{"cursor":"0","events":[]}')

    def pass_on(self, message):
        waiting, self.waiting = self.waiting, []
        for sock in waiting:
            self.reply(sock, b'{"cursor":"0","events":[%s]}' % message)

    def take_file(self, sock, request):
        left = int(CONTENT_LENGTH.search(request).group(1)) - len(request.partition(b'\r\n\r\n')[2])
        while left:
            left -= len(sock.recv(PIECE))
        self.reply(sock, b'{"file":{"url":"/files/floor"}}')

    @staticmethod
    def reply(sock, body):
        sock.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % len(body) + body)


def run_floor(folder, pipe):
    """The process of the floor: tells its port, and serves until it is ended."""
    Core().stay()
    floor = Floor(folder)
    pipe.send(floor.listening.getsockname()[1])
    floor.run()


class Bench:
    """The folders of one benchmark, and the processes that it starts over them, one at a time."""

    def __init__(self, folder, people, messages, kept=None):
        self.folder, self.core = folder, Core()
        self.sizes = {'few': (people, 1, 0), 'crew': (min(people, 25), 10, min(2000, messages)),
                      'unread': (people, 1, min(BENCH_UNREAD, messages)),
                      'million': (min(people, 100), BENCH_CHANNELS, messages)}
        self.kept = kept

    def path(self, place):
        return self.kept if self.kept and place == 'million' else os.path.join(self.folder, place)

    def cookies(self, place):
        """Make the folder unless it is there; returns the cookies of its people."""
        path = os.path.join(self.path(place), 'bench.json')
        if not os.path.exists(path):
            cookies = make_bench_folder(self.path(place), *self.sizes[place])
            save(path, encode({'cookies': cookies}))
        return read_json_object(path)['cookies']

    @contextlib.contextmanager
    def serving(self, place, cookies=('',), words=()):
        """The chat over a folder, as a subject."""
        settings = os.path.join(self.folder, 'settings.json')
        save(settings, encode({'rate_limit_enabled': False, 'stun_port': 0}))
        process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), 'serve', '--port', '0', '--quiet', '--settings', settings,
             '--data', self.path(place)] + list(words), stdout=subprocess.PIPE)
        try:
            yield self.aside(Subject(process, read_port(process), cookies, '--plain-http' in words))
        finally:
            self.core.leave()
            process.terminate()
            process.stdout.close()
            process.wait(20)

    @contextlib.contextmanager
    def floor(self, place):
        """The floor with the certificate of a folder, as a subject."""
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context('spawn').Process(target=run_floor, args=(self.path(place), there), daemon=True)
        process.start()
        try:
            yield self.aside(Subject(process, here.recv(), ['']))
        finally:
            self.core.leave()
            process.terminate()
            process.join(20)

    def aside(self, subject):
        """Keep off the core that the subject has: in earnest its peers are other machines."""
        Core(subject.process.pid).avoid()
        return subject

    def measure(self, part):
        """Returns: a list of (value, value of the floor or None) for the part's figures."""
        if part.place is None:
            return [(value, None) for value in part.measure(self)]
        with self.serving(part.place, self.cookies(part.place)) as subject:
            values = part.measure(subject)
        if not part.has_floor:
            return [(value, None) for value in values]
        with self.floor(part.place) as subject:
            return list(zip(values, part.measure(subject)))


def read_port(process):
    """The port that a starting server tells."""
    for line in process.stdout:
        found = re.search(rb'https?://127\.0\.0\.1:(\d+)', line)
        if found:
            return int(found.group(1))
    raise Trouble('The server of the benchmark did not start.')


# -- what is stored

def make_bench_folder(folder, people, channels, messages):
    """Fill a data folder by its store, without a server; returns the cookies of its people."""
    app = App(folder, Settings({}))
    app.open()
    hashed = app.passwords.hash(BENCH_PASSWORD)
    user_ids = app.store.write(lambda change: [
        add_account(app, change, 'user%d' % number, hashed, 'member' if number else 'owner') for number in range(people)])
    cookies = app.store.write(lambda change: [
        '__Host-minimost=' + app.sessions.begin(change, user_id, 'bench', '127.0.0.1') for user_id in user_ids])
    app.store.write(lambda change: add_bench_channels(change, user_ids, channels))
    lines = bench_lines(random.Random(7), 20000)
    for first in range(0, messages, BENCH_PIECE):
        numbers = range(first, min(messages, first + BENCH_PIECE))
        app.store.write(lambda change: add_bench_messages(change, numbers, user_ids, channels, lines))
    app.close()
    return cookies


def add_bench_channels(change, user_ids, count):
    for number in range(1, count):
        channel_id = add_channel(change, 'public', user_ids[0], name='channel-%d' % number)
        for user_id in user_ids:
            add_member(change, channel_id, user_id)


def add_bench_messages(change, numbers, user_ids, channels, lines):
    """Write messages and their words; user 0 writes none, and so has them all before it."""
    after = change.execute('SELECT coalesce(max(id), 0) FROM messages').fetchone()[0]
    for number in numbers:
        change.execute(
            "INSERT INTO messages (channel_id, user_id, kind, text, created_at, client_id) VALUES (?, ?, 'text', ?, ?, ?)",
            (1 + number % channels, user_ids[1 + number // 7 % (len(user_ids) - 1)],
             '%s %d' % (lines[number * 7919 % len(lines)], number), change.now, 'bench-%08d' % number))
    change.execute("INSERT INTO words (rowid, text, place) SELECT id, text, 'c' || channel_id || ' u' || user_id "
                   "FROM messages WHERE id > ? AND kind = 'text'", (after,))
    set_meta(change, 'indexed_to', str(change.execute('SELECT max(id) FROM messages').fetchone()[0]))


@functools.lru_cache(maxsize=1)
def bench_words():
    """Five thousand words that nobody ever said, the common ones first."""
    beginnings, middles, ends = 'b br c d dr f g k l m n p r s st t v w z'.split(), 'a e i o u'.split(), 'l m n r s t'.split()
    pieces = [one + two for one in beginnings for two in middles]
    words = [one + two + end for end in ends for one in pieces for two in pieces[::2]]
    return random.Random(1).sample(words, 5000)


def bench_lines(chance, count):
    """Lines of ten words each, the n-th word being n times as rare as the first."""
    words, weights = bench_words(), list(itertools.accumulate(1 / (rank + 1) for rank in range(5000)))
    return [' '.join(chance.choices(words, cum_weights=weights, k=10)) for _ in range(count)]


# -- what is measured

def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def milliseconds(seconds, *shares):
    seconds = list(seconds)
    return [1000 * percentile(seconds, share) for share in shares]


def timed(function):
    """How many seconds a call takes."""
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def measure_delivery(count, rounds, *shares):
    """Returns a function that measures after how many ms so many listeners have a message, and the last of them."""
    def measure(subject):
        crowd = Crowd(subject, count)
        crowd.deliver(subject.new_name())
        rounds_ = [crowd.deliver(subject.new_name()) for _ in range(rounds)]
        crowd.close()
        lasts = milliseconds([times[-1] for times in rounds_], 0.5)
        return milliseconds(itertools.chain(*rounds_), *shares) + lasts[:count > 1]
    return measure


def measure_memory(subject):
    """KiB that each of a thousand listeners takes."""
    subject.peer(0).ask('GET', '/poll?after=none')
    before = subject.memory()
    crowd = Crowd(subject, 1000)
    grown = subject.memory() - before
    crowd.close()
    return [grown / 1000]


def measure_idle(subject):
    """Seconds of the processor that a hundred pages cost in a minute, when nobody does anything."""
    crowd, before, begun = Crowd(subject, 100), subject.processor_seconds(), time.perf_counter()
    while time.perf_counter() - begun < LONGEST_WAIT:
        crowd.go_round(0.5)
    spent = subject.processor_seconds() - before
    crowd.close()
    return [60 * spent / LONGEST_WAIT]


def measure_busy_channel(subject):
    """A thousand people, each with a page, write once a minute each: % of a core, and p50 and p99 in ms."""
    crowd, writers, sent, told = Crowd(subject, 1000), [subject.peer(number) for number in range(16)], {}, []
    before, begun, pause = subject.processor_seconds(), time.perf_counter(), 60 / 1000
    for number in range(int(BUSY_SECONDS / pause)):
        while time.perf_counter() < begun + number * pause:
            told += crowd.go_round(max(0, begun + number * pause - time.perf_counter())) or ()
        name, writer = subject.new_name(), writers[number % len(writers)]
        sent[name.encode('ascii')] = time.perf_counter()
        if number >= len(writers):
            writer.expect()
        writer.send(*post_request(name))
    told += crowd.settle(0.5)
    share = 100 * (subject.processor_seconds() - before) / BUSY_SECONDS
    crowd.close()
    return [share] + milliseconds([at - sent[name] for name, at in told], 0.5, 0.99)


def measure_rate(peers, make_request):
    """Returns a function that measures answers per second: every peer asks again when it is answered."""
    def measure(subject):
        selector, answered, waiting = selectors.DefaultSelector(), 0, peers
        for number in range(peers):
            peer = subject.peer(number)
            peer.send(*make_request(subject))
            selector.register(peer.socket, selectors.EVENT_READ, peer)
        begun = time.perf_counter()
        while waiting:
            for key, _ in selector.select(1):
                answered += 1
                key.data.expect()
                if time.perf_counter() - begun < FULL_SPEED_SECONDS:
                    key.data.send(*make_request(subject))
                else:
                    waiting -= 1
        selector.close()
        return [answered / (time.perf_counter() - begun)]
    return measure


def ask_me(subject):
    return 'GET', '/me'


def post_new(subject):
    return post_request(subject.new_name())


def sign_in(subject):
    return 'POST', '/login', encode({'username': 'user%d' % (next(subject.numbers) % len(subject.cookies)), 'password': BENCH_PASSWORD})


def measure_promise(subject):
    """How many deliveries are lost or doubled while eight write as fast as they can and twenty listen."""
    crowd, told = Crowd(subject, 20), []
    writing = threading.Thread(target=measure_rate(8, post_new), args=(subject,))
    writing.start()
    while writing.is_alive():
        told += crowd.go_round(0.1) or ()
    heard = collections.Counter(name for name, _ in told + crowd.settle(1))
    crowd.close()
    never = next(subject.numbers) - len(heard)
    return [20 * never + sum(abs(times - 20) for times in heard.values())]


def measure_files(subject):
    """MB/s up, and then down."""
    peer, size = subject.peer(0), len(BENCH_FILE) / 10 ** 6
    ups = [timed(lambda: peer.ask_raw('POST', '/files?name=bench.bin', BENCH_FILE, 'application/octet-stream')) for _ in range(6)]
    answer = peer.ask_raw('POST', '/files?name=bench.bin', BENCH_FILE, 'application/octet-stream')
    url = json.loads(answer[1].decode('utf-8'))['file']['url']
    downs = [timed(lambda: peer.take_file(url)) for _ in range(15)]
    return [size / percentile(ups, 0.5), size / percentile(downs, 0.5)]


def measure_asking(make_path, count, *shares):
    """Returns a function that measures in how many ms so many GETs are answered, to one who asks nothing else.

    Args: make_path(chance) gives the path of one.
    """
    def measure(subject):
        peer, chance = subject.peer(0), random.Random(3)
        paths = [make_path(chance) for _ in range(count)]
        peer.ask('GET', paths[0])
        return milliseconds([timed(lambda: peer.ask('GET', path)) for path in paths], *shares)
    return measure


def ask_snapshot(chance):
    return '/snapshot'


def ask_page(chance):
    return '/channels/1/messages?before=%d' % chance.randrange(1000, BENCH_MESSAGES)


def ask_words(chance):
    """A search for words, rare and common, alone and in pairs."""
    return '/search?q=' + '+'.join(chance.sample(bench_words(), chance.choice((1, 2))))


def ask_letters(chance):
    return '/search?q=' + chance.choice(bench_words())[:2]


def measure_signing_in(subject):
    """Sign-ins per second, and what others wait meanwhile for an answer: p50 and p99 in ms."""
    peer, rates, times = subject.peer(0), [], []
    signing_in = threading.Thread(target=lambda: rates.extend(measure_rate(8, sign_in)(subject)))
    signing_in.start()
    while signing_in.is_alive():
        times.append(timed(lambda: peer.ask('GET', '/me')))
        time.sleep(0.003)
    return rates + milliseconds(times, 0.5, 0.99)


def measure_half_handshakes(subject):
    """The answers to somebody while five hundred TLS handshakes stand half-way: p50 and p99 in ms."""
    silent = [socket.create_connection(('127.0.0.1', subject.port)) for _ in range(500)]
    for sock in silent:
        sock.sendall(b'\x16\x03\x01')
    times = measure_asking(lambda chance: '/me', 200, 0.5, 0.99)(subject)
    for sock in silent:
        sock.close()
    return times


def measure_signals(subject):
    """How long a signal takes from one page in a call to another that waits for it: p50 and p99 in ms."""
    sender, receiver, times, cursor = subject.peer(0), subject.peer(1), [], ''
    for peer in (sender, receiver):
        call = json.loads(peer.ask('POST', '/calls', {'channel_id': 1, 'device': 'bench'})[1].decode('utf-8'))['call']
    to = json.loads(receiver.ask('GET', '/me')[1].decode('utf-8'))['user']['id']
    for number in range(200):
        receiver.send('GET', '/calls/%d/signals?device=bench&after=%s' % (call['id'], cursor))
        time.sleep(0.002)                    # so that it waits
        begun = time.perf_counter()
        sender.send('POST', '/calls/%d/signal' % call['id'], encode({'to': to, 'device': 'bench', 'data': number}))
        cursor = TOLD_CURSOR.match(receiver.expect()[1]).group(1).decode('ascii')
        times.append(time.perf_counter() - begun)
        sender.expect()
    return milliseconds(times, 0.5, 0.99)


def measure_stun(subject, under_way=64):
    """Binding requests answered in a second, so many of them under way at a time."""
    welcome = json.loads(subject.peer(0).ask('GET', '/welcome')[1].decode('utf-8'))
    request, answered = PLAIN_REQUEST + bytes(12), 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect(('127.0.0.1', welcome['server']['stun']))
        for _ in range(under_way):
            sock.send(request)
        begun = time.perf_counter()
        while time.perf_counter() - begun < FULL_SPEED_SECONDS:
            for _ in range(under_way):
                sock.recv(MOST_PACKET)
                sock.send(request)
            answered += under_way
        return [answered / (time.perf_counter() - begun)]


def measure_first_page(subject):
    """What a browser loads before there is something to read: requests, KB, and the ms they take one after the other."""
    peer, sizes, begun = subject.peer(0), [], time.perf_counter()
    page = gzip.decompress(peer.ask('GET', '/')[1]).decode('utf-8')
    for path in ['/'] + re.findall('<link rel="(?:modulepreload|stylesheet)" href="([^"]+)">', page) + ['/snapshot']:
        sizes.append(sum(map(len, peer.ask('GET', path))))
    return [len(sizes), sum(sizes) / 1000, 1000 * (time.perf_counter() - begun)]


def measure_starts(bench):
    """Seconds until the first answer: of the first start ever, of a later one, and the same two without certificates."""
    times = []
    for words in ((), ('--plain-http',)):
        for _ in range(2):
            begun = time.perf_counter()
            with bench.serving('start' + ''.join(words), words=words) as subject:
                subject.peer(0).ask('GET', '/health')
                times.append(time.perf_counter() - begun)
        shutil.rmtree(bench.path('start' + ''.join(words)))
    return times


def delivery_figures(words, goals):
    return [Figure('%s, %s' % (words, share), 'ms', goal) for share, goal in zip(('p50', 'p99', 'last'), goals)]


BENCHMARKS = (                   # its name, over which folder, and what comes of it
    Part('one', 'few', measure_delivery(1, 200, 0.5, 0.99), True, delivery_figures('Delivery to 1 listener', ('<= 2', '<= 6'))),
    Part('hundred', 'few', measure_delivery(100, 50, 0.5, 0.99), True,
         delivery_figures('Delivery to 100 listeners', ('<= 6', '<= 15', ''))),
    Part('unread', 'unread', measure_delivery(100, 50, 0.5, 0.99), True,
         delivery_figures('The same with 100,000 messages stored and unread', ('<= 6', '<= 15', ''))),
    Part('two-hundred', 'few', measure_delivery(200, 30, 0.5, 0.99), True,
         delivery_figures('Delivery to 200 listeners', ('<= 10', '<= 25', ''))),
    Part('thousand', 'few', measure_delivery(1000, 15, 0.5, 0.99), True,
         delivery_figures('Delivery to 1000 listeners', ('', '', '<= 60'))),
    Part('two-thousand', 'few', measure_delivery(2000, 10, 0.5, 0.99), True,
         delivery_figures('Delivery to 2000 listeners', ('', '', '<= 150'))),
    Part('busy', 'few', measure_busy_channel, True, [
        Figure('1000 users in one channel, a message a minute each', '% of a core', '<= 50'), Figure('… delivery, p50', 'ms', ''),
        Figure('… delivery, p99', 'ms', '<= 50')]),
    Part('promise', 'few', measure_promise, False, [
        Figure('Lost or doubled deliveries, 8 senders at full speed', 'messages', '<= 0')]),
    Part('sender', 'few', measure_rate(1, post_new), True, [Figure('Messages acknowledged, 1 sender', 'per second', '>= 1000')]),
    Part('senders', 'few', measure_rate(8, post_new), True, [Figure('Messages acknowledged, 8 senders', 'per second', '>= 4000')]),
    Part('gets', 'few', measure_rate(8, ask_me), True, [Figure('Small GETs, 8 connections', 'per second', '>= 8000')]),
    Part('files', 'few', measure_files, True, [
        Figure('Upload of 20 MB', 'MB/s', '>= 300'), Figure('Download of 20 MB', 'MB/s', '>= 0.7 of the floor')]),
    Part('memory', 'few', measure_memory, True, [Figure('Memory for each of 1000 listeners', 'KiB', '<= 25')]),
    Part('idle', 'crew', measure_idle, False, [Figure('100 idle pages, processor in a minute', 's', '<= 0.5')]),
    Part('start', None, measure_starts, False, [
        Figure('Start, the first ever', 's', '<= 0.6'), Figure('Start, a later one', 's', '<= 0.3'),
        Figure('Start without certificates, the first ever', 's', ''), Figure('Start without certificates, a later one', 's', '')]),
    Part('page', 'crew', measure_first_page, False, [
        Figure('First page', 'requests', '<= 40'), Figure('First page, on the wire', 'KB', '<= 120'),
        Figure('First page, one part after the other', 'ms', '<= 300')]),
    Part('snapshot', 'million', measure_asking(ask_snapshot, 50, 0.5, 0.99), False, [
        Figure('Snapshot, 1,000,000 messages unread, p50', 'ms', '<= 30'), Figure('… p99', 'ms', '')]),
    Part('search', 'million', measure_asking(ask_words, 200, 0.5, 0.95), False, [
        Figure('Search for words in 1,000,000 messages, p50', 'ms', ''), Figure('… p95', 'ms', '<= 10')]),
    Part('letters', 'million', measure_asking(ask_letters, 60, 0.5, 0.95), False, [
        Figure('Search for two letters, p50', 'ms', ''), Figure('… p95', 'ms', '<= 30')]),
    Part('paging', 'million', measure_asking(ask_page, 200, 0.5, 0.95), False, [
        Figure('A page of 50 of 1,000,000 messages, p50', 'ms', ''), Figure('… p95', 'ms', '')]),
    Part('sign-ins', 'few', measure_signing_in, False, [
        Figure('Sign-ins, 8 people', 'per second', ''), Figure('… answers to others meanwhile, p50', 'ms', ''),
        Figure('… p99', 'ms', '')]),
    Part('handshakes', 'few', measure_half_handshakes, False, [
        Figure('Answers beside 500 half TLS handshakes, p50', 'ms', ''), Figure('… p99', 'ms', '')]),
    Part('signals', 'few', measure_signals, False, [Figure('Signals in a call, p50', 'ms', ''), Figure('… p99', 'ms', '')]),
    Part('stun', 'few', measure_stun, False, [Figure('STUN answers', 'per second', '')]),
)


# -- what is said of it

Outcome = collections.namedtuple('Outcome', 'figure value floor')


def outcome_of(figure, runs):
    """The medians of what several runs gave, each as (value, that of the floor or None)."""
    floors = [floor for _, floor in runs if floor is not None]
    return Outcome(figure, statistics.median([value for value, _ in runs]), statistics.median(floors) if floors else None)


def verdict(outcome):
    """Whether the goal is reached: ok, short, or nothing where there is no goal."""
    if not outcome.figure.goal:
        return ''
    comparison, number, *of_floor = outcome.figure.goal.split(None, 2)
    value = outcome.value / outcome.floor if of_floor else outcome.value
    return 'ok' if (value <= float(number) if comparison == '<=' else value >= float(number)) else 'short'


def short_number(value):
    return '' if value is None else '%.0f' % value if value >= 100 or value == int(value) else '%.1f' % value if value >= 10 else '%.2f' % value


def outcome_cells(outcome):
    """What a row of the table says: what, unit, goal, figure, ratio to the floor, verdict."""
    ratio = outcome.value / outcome.floor if outcome.floor else None
    return [outcome.figure.words, outcome.figure.unit, outcome.figure.goal.replace('<=', '≤').replace('>=', '≥'),
            short_number(outcome.value), short_number(ratio), verdict(outcome)]


TABLE_HEAD = ['what', 'unit', 'goal', 'figure', 'of the floor', '']


def text_row(cells):
    return '%-56s %-12s %20s %9s %13s  %s' % tuple(cells)


def markdown_row(cells):
    return '| %s |' % ' | '.join(cells)


@command('bench', argument('parts', nargs='*', metavar='PART', help='of what to measure: all, or some of ' + ', '.join(
            part.name for part in BENCHMARKS)),
         argument('--runs', type=int, default=1, help='how often; the medians are told'),
         argument('--markdown', action='store_true', help='tell them as rows of the table in README.md'),
         argument('--messages', type=int, default=BENCH_MESSAGES, help='stored for the parts about a million'),
         argument('--people', type=int, default=BENCH_PEOPLE, help='who take part'),
         argument('--folder', metavar='DIR', help='where the million messages are kept for the next time'))
def bench(options):
    """Measure how fast the chat is on this machine, beside the least that such a server can be."""
    unknown = set(options.parts) - {part.name for part in BENCHMARKS}
    if unknown:
        raise WrongUsage('There is no part %s.' % ', '.join(sorted(unknown)))
    raise_descriptor_limit()
    row = markdown_row if options.markdown else text_row
    print(row(TABLE_HEAD) + ('\n|---|---|---|---|---|---|' if options.markdown else ''))
    with tempfile.TemporaryDirectory() as folder:
        one = Bench(folder, options.people, options.messages, options.folder)
        for part in BENCHMARKS:
            if options.parts and part.name not in options.parts:
                continue
            runs = [one.measure(part) for _ in range(options.runs)]
            for figure, values in zip(part.figures, zip(*runs)):
                print(row(outcome_cells(outcome_of(figure, values))), flush=True)


# ---- 34. COMMAND LINE ------------------------------------------------

def read_command_line(words):
    """The command and its options; without a command it is serve."""
    parser = argparse.ArgumentParser(prog='minimost.py', description='Team chat for places without internet.')
    parser.add_argument('--version', action='version', version='MiniMost ' + VERSION)
    commands = parser.add_subparsers(dest='command', metavar='command')
    for one in COMMANDS.values():
        sub = commands.add_parser(one.name, help=one.help, description=one.help)
        for names, options in one.arguments:
            sub.add_argument(*names, **options)
    if not words or words[0].startswith('-') and words[0] not in ('-h', '--help', '--version'):
        words = ['serve'] + words
    return parser.parse_args(words)


def main(words):
    """Run a command; returns the exit status."""
    options = read_command_line(words)
    try:
        COMMANDS[options.command].run(options)
    except Trouble as trouble:
        say(trouble)
        return trouble.status
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
