#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# manual.py - does the manual say what the headers say? Each function has a
# page with its prototype and just its errnos, sections are in order, examples
# compile, no reference is dead. Part of `make lint`; run from the top level.
import glob
import os
import re
import subprocess
import sys

MAN, INC = 'src/man/', 'include/tmc/'
SECTIONS = ['NAME', 'SYNOPSIS', 'DESCRIPTION', 'RETURN VALUE', 'ERRORS',
            'NOTES', 'EXAMPLES', 'SEE ALSO']
COMMAND = ['NAME', 'SYNOPSIS', 'DESCRIPTION', 'OPTIONS', 'EXIT STATUS',
           'ENVIRONMENT', 'NOTES', 'EXAMPLES', 'SEE ALSO']
ERRNO = r'\bE[A-Z0-9]{3,}\b'
faults = []


def say(page, what):
    faults.append(f'{page}: {what}')


def functions():
    """Name, prototype and errnos of each function, from its header block."""
    for header in sorted(glob.glob(INC + '*.h')):
        block = ''
        text = open(header).read()
        for m in re.finditer(r'/\*.*?\*/|^TMC_API\s[^;]*;', text, re.S | re.M):
            part = m.group(0)
            if part.startswith('/*'):
                block = part
                continue
            name = re.search(r'\b(tmc_\w+)\s*\(', part).group(1)
            yield name, part[8:-1], set(re.findall(ERRNO, block))


def target(page):
    text = open(page).read()
    if text.startswith('.so '):
        page = MAN + os.path.basename(text.split()[1])
        if not os.path.exists(page):
            say(page, 'alias of nothing')
            return None
    return page


def section(text, name):
    m = re.search(rf'\.SH {name}\n(.*?)(?=\.SH |\Z)', text, re.S)
    return m.group(1) if m else ''


def plain(text):
    text = re.sub(r'^\.(BI|BR|B) ', '', text, flags=re.M)
    return re.sub(r'["\s]', '', text)


def check_functions():
    errnos = {}
    for name, proto, wanted in functions():
        page = MAN + name + '.3'
        if not os.path.exists(page):
            say(name, 'no page')
            continue
        page = target(page)
        text = open(page).read()
        errnos.setdefault(page, set()).update(wanted)
        # the one with a variable argument spells it out
        if '...' not in proto and re.sub(r'\s', '', proto) not in plain(text):
            say(page, f'another prototype of {name}')
        if name not in section(text, 'NAME'):
            say(page, f'{name} is not under NAME')
    for page, wanted in errnos.items():
        found = set(re.findall(ERRNO, section(open(page).read(), 'ERRORS')))
        if found - wanted:
            say(page, f'errnos not in the header: {sorted(found - wanted)}')
        if wanted - found:
            say(page, f'errnos missing: {sorted(wanted - found)}')


def check_example(page, code):
    for roff, char in (('\\e', '\\'), ('\\-', '-'), ('\\(aq', "'"),
                       ('\\(ha', '^'), ('\\(ti', '~'), ('\\(ga', '`')):
        code = code.replace(roff, char)
    run = subprocess.run(['gcc', '-std=c11', '-pedantic', '-Wall', '-Wextra',
                          '-Iinclude', '-fsyntax-only', '-x', 'c', '-'],
                         input=code, text=True, capture_output=True)
    if run.returncode or run.stderr:
        say(page, 'example: ' + run.stderr)


def check_page(page):
    text = open(page).read()
    if text.startswith('.so '):
        return
    wanted = COMMAND if page.endswith('.1') else SECTIONS
    if re.findall(r'^\.SH (.*)', text, re.M) != wanted:
        say(page, 'sections are not ' + ', '.join(wanted))
    for name, number in re.findall(r'\.BR (tmc_\w+|libshmem|shmem\w*) \((\d)\)',
                                   text):
        if not os.path.exists(f'{MAN}{name}.{number}'):
            say(page, f'refers to {name}({number})')
    for code in re.findall(r'\.EX\n(.*?)\.EE', section(text, 'EXAMPLES'), re.S):
        if '#include' in code:
            check_example(page, code)


check_functions()
for each in sorted(glob.glob(MAN + '*.[1-9]')):
    check_page(each)
print('\n'.join(faults), end='\n' if faults else '')
sys.exit(bool(faults))
