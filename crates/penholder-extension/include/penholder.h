/* libpenholder: the C interface to penholder's write lock.
 *
 * Made from crates/penholder-extension/src/interface.rs; a test compares them. SQLite programs need
 * none of this: they load the library as an extension.
 */

#ifndef PENHOLDER_H
#define PENHOLDER_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/*
 It is done.
 */
#define PENHOLDER_OK 0

/*
 It is not done yet: call the function again.
 */
#define PENHOLDER_AGAIN 1

/*
 The time is over.
 */
#define PENHOLDER_TIMEOUT 2

/*
 The function was called in a way that makes no sense.
 */
#define PENHOLDER_MISUSE 3

/*
 The lock file is on a network file system.
 */
#define PENHOLDER_NETWORK 4

/*
 This user may not use the lock file.
 */
#define PENHOLDER_PERMISSION 5

/*
 Anything else: the text says what.
 */
#define PENHOLDER_FAILED 6

/*
 The version of this interface. It changes when a program that was built for it before would not
 work any more.
 */
#define PENHOLDER_ABI 1

/*
 A write lock that a thread wants or has.
 */
typedef struct penholder_lock penholder_lock;

/*
 Waits for commits to a database.
 */
typedef struct penholder_watch penholder_watch;

/*
 What is asked for when the lock of a database is taken. Set all of it to zero first.
 */
typedef struct {
  /*
   What the lock is taken for, in UTF-8; NULL for nothing.
   */
  const char *label;
  /*
   The lock file; NULL for `db.lock` in the directory of the database.
   */
  const char *lock_file;
  /*
   `time-sliced` or `fifo`; NULL for the first.
   */
  const char *policy;
  /*
   Not zero: the lock file may be on a network file system.
   */
  int allow_network;
} penholder_options;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Returns [`PENHOLDER_ABI`] of this library: compare it with the one that the program was built
 for.
 */
uint32_t penholder_abi(void);

/*
 Returns the version of this library, for example `0.1.0`.
 */
const char *penholder_version(void);

/*
 Returns why the last function that failed on this thread did so: the whole text, in UTF-8. It
 is valid until the next call on this thread; NULL if none has failed.
 */
const char *penholder_error_text(void);

/*
 Returns the same as JSON: an object with `message`, `lock_file`, and `holder` as in
 [`penholder_status`].
 */
const char *penholder_error_json(void);

/*
 Frees a text that a function has stored; NULL is allowed.

 # Safety

 It is such a text, and is not used any more.
 */
void penholder_text_free(char *text);

/*
 Makes a lock of a database, which nobody has yet. `options` may be NULL.

 # Safety

 The texts are C texts, and there is room for a pointer at `lock`.
 */
int penholder_lock_new(const char *database,
                       const penholder_options *options,
                       penholder_lock **lock);

/*
 Takes the lock for the calling thread, waiting up to `timeout` milliseconds since the first call;
 `UINT64_MAX` for no limit. It returns [`PENHOLDER_AGAIN`] after `pause` milliseconds, so that the
 program can do something else in between, for example look for signals: the place in the queue
 stays for 10 ms. Writes of this thread through connections that use penholder need no lock of
 their own meanwhile; those of other threads wait.

 # Safety

 The lock was made by [`penholder_lock_new`], and no other thread uses it meanwhile.
 */
int penholder_lock_acquire(penholder_lock *lock, uint64_t timeout, uint64_t pause);

/*
 Releases the lock, from any thread; or gives up waiting for it. One that is not held stays so.

 # Safety

 The lock was made by [`penholder_lock_new`], and no other thread uses it meanwhile.
 */
int penholder_lock_release(penholder_lock *lock);

/*
 Frees a lock, and releases it if it is held; NULL is allowed.

 # Safety

 The lock was made by [`penholder_lock_new`], and is not used any more.
 */
void penholder_lock_free(penholder_lock *lock);

/*
 Stores the lock of a database as JSON, as `penholder status --json` prints it. It only looks.

 # Safety

 The texts are C texts, and there is room for a pointer at `json`.
 */
int penholder_status(const char *database, const penholder_options *options, char **json);

/*
 Makes a watch of a database, for the commits after the one that `since` stands for; NULL for those
 from now on. `options` may be NULL.

 # Safety

 The texts are C texts, and there is room for a pointer at `watch`.
 */
int penholder_watch_new(const char *database,
                        const penholder_options *options,
                        const char *since,
                        penholder_watch **watch);

/*
 Waits for the next commit, for up to `timeout` milliseconds; otherwise it returns
 [`PENHOLDER_TIMEOUT`]. Several commits may count as one.

 # Safety

 The watch was made by [`penholder_watch_new`], and no other thread uses it meanwhile.
 */
int penholder_watch_wait(penholder_watch *watch, uint64_t timeout);

/*
 Stores the text that stands for the last commit which the watch has told, or from which on it
 waits: for [`penholder_watch_new`], in any process.

 # Safety

 The watch was made by [`penholder_watch_new`], no other thread uses it meanwhile, and there is
 room for a pointer at `token`.
 */
int penholder_watch_token(const penholder_watch *watch, char **token);

/*
 Frees a watch; NULL is allowed.

 # Safety

 The watch was made by [`penholder_watch_new`], and is not used any more.
 */
void penholder_watch_free(penholder_watch *watch);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PENHOLDER_H */
