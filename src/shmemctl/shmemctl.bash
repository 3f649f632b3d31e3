# SPDX-License-Identifier: BSD-3-Clause
# shmemctl.bash - bash completes shmemctl's words, by asking shmemctl --help
