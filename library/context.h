#pragma once
// Each task of the library gets a Context from its caller. The library reads no environment variables,
// because the caller decides which folders a user has.

#include <filesystem>
#include <stop_token>

#include "library/observer.h"

namespace sluice::library {

struct Folders {
  std::filesystem::path data;            ///< holds manifests/; empty: no release is known by name
  std::filesystem::path store;           ///< model store; empty: a task that needs it ends with Error{usage}
  std::filesystem::path trusted_keys;    ///< NAME.pub files; empty: no key is trusted, and none can be kept
  std::filesystem::path user_data = {};  ///< holds manifests/ of the user, which come before those in data
};

/// A stop request ends a task with Error{interrupted}.
struct Context {
  const Folders& folders;
  Observer& observer;
  std::stop_token stop;
};

}  // namespace sluice::library
