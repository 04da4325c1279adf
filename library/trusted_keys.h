#pragma once
// The public keys that the user trusts: files NAME.pub in Folders::trusted_keys.

#include <filesystem>
#include <string>
#include <vector>

#include "base/signature.h"
#include "library/context.h"

namespace sluice::library {

struct TrustedKey {
  std::string name;  ///< the name of its file: "alice.pub"
  base::PublicKey key;
};

/// Sorted by name. A file that is not a key is left out with a warning.
[[nodiscard]] std::vector<TrustedKey> list_trusted_keys(const Context& context);

/// Keeps a key as NAME.pub and returns the file. Error{usage} when another key has that name, or when there
/// is no folder for keys.
std::filesystem::path add_trusted_key(const std::string& name, const base::PublicKey& key,
                                      const Folders& folders);

/// `text`: a key file, or the key's line of 56 characters itself. Error{usage} for anything else.
[[nodiscard]] base::PublicKey find_key(const std::string& text);

/// Two lines that a person compares before trusting a key: its id and its fingerprint.
[[nodiscard]] std::vector<std::string> describe_key(const base::PublicKey& key);

}  // namespace sluice::library
