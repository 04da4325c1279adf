#pragma once
// The public keys that the user trusts: files NAME.pub in $XDG_CONFIG_HOME/sluice/trusted.

#include <filesystem>
#include <string>
#include <vector>

#include "base/signature.h"
#include "cli/console.h"

namespace sluice::cli {

struct TrustedKey {
  std::string name;  ///< of its file: "alice.pub"
  base::PublicKey key;
};

/// $XDG_CONFIG_HOME/sluice/trusted, by default ~/.config/sluice/trusted. Empty without either variable.
[[nodiscard]] std::filesystem::path trusted_folder();

/// Sorted by name. A file that holds no key is left out with a warning.
[[nodiscard]] std::vector<TrustedKey> list_trusted_keys(Console& console);

/// Keeps a key as NAME.pub and returns the file. Error{usage} when another key has that name.
std::filesystem::path add_trusted_key(const std::string& name, const base::PublicKey& key);

/// `text`: a key file, or the key's line of 56 characters itself. Error{usage} for what is neither.
[[nodiscard]] base::PublicKey find_key(const std::string& text);

/// What a person compares before trusting a key.
[[nodiscard]] std::string describe_key(const base::PublicKey& key);

}  // namespace sluice::cli
