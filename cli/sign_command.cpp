// sign: writes a detached signature in minisign's format. The file is read in pieces and only its BLAKE2b-512
// digest is signed (algorithm "ED", base/signature.h), so its size does not matter. Key text and password are
// kept in Password objects, which overwrite their memory.

#include <ctime>

#include "base/error.h"
#include "base/file.h"
#include "base/hasher.h"
#include "base/output.h"
#include "base/signature.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/terminal.h"
#include "library/library.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kKeyFileBytesMax = 16384;
constexpr std::size_t kReadBytes = 1 << 20;

struct SignOptions {
  std::string file;
  std::string key;
  std::string comment;
  bool password_stdin = false;
  bool overwrite = false;
};

base::SecretKey open_secret_key(const SignOptions& values, Console& console) {
  // A key without a password is a secret by itself, so its text is overwritten, too.
  const Password text(base::read_text_file(values.key, kKeyFileBytesMax));
  if (!base::is_locked(text.text(), values.key)) return base::parse_secret_key(text.text(), values.key, {});
  const Password password =
      values.password_stdin ? read_password() : ask_password(console, "Password of " + values.key + ": ");
  console.begin_step("Deriving a key from the password");
  auto key = base::parse_secret_key(text.text(), values.key, password.text());
  console.end_step();
  return key;
}

base::Blake2b512 hash_file(const fs::path& path, const std::stop_token& stop) {
  const auto file = base::File::open_read(path);
  base::Hasher<base::Blake2b512> hasher;
  std::vector<std::byte> buffer(kReadBytes);
  for (std::uint64_t offset_bytes = 0;;) {
    if (stop.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
    const std::size_t got = file.read_at(offset_bytes, buffer);
    if (got == 0) return hasher.final();
    hasher.update(base::Bytes(buffer).first(got));
    offset_bytes += got;
  }
}

/// The comment is one line of the signature file and is shown to others, so it may not hold line ends or
/// control characters.
void check_comment(const std::string& comment) {
  if (comment.size() > base::kTrustedCommentBytesMax) {
    throw base::Error(base::ErrorKind::usage, "--comment has " + std::to_string(comment.size()) +
                                                  " bytes, expected at most " +
                                                  std::to_string(base::kTrustedCommentBytesMax));
  }
  if (base::to_printable(comment) != comment)
    throw base::Error(base::ErrorKind::usage, "--comment is one line of characters that can be shown");
}

// minisign has the same default comment, so both programs describe a signature alike.
std::string default_comment(const fs::path& file) {
  return "timestamp:" + std::to_string(std::time(nullptr)) +
         "\tfile:" + base::to_printable(file.filename().string()) + "\thashed";
}

/// Says why a file is no signature, or none by this key when there is one.
std::string other_signature(const fs::path& path, const base::SecretKey* key) {
  try {
    const auto found =
        base::parse_signature(base::read_text_file(path, base::kSignatureFileBytesMax), path.string());
    if (key == nullptr || found.key_id == key->id) return {};
    return "was made with another key (" + base::to_string(found.key_id) + ")";
  } catch (const base::Error&) {
    return "is no signature";
  }
}

void require_output(const fs::path& path, const SignOptions& values, const base::SecretKey* key) {
  base::require_output(path, {.inputs = {values.file, values.key},
                              .problem = [&](const fs::path& found) { return other_signature(found, key); },
                              .overwrite = values.overwrite,
                              .option = ""});
}

}  // namespace

int sign_command(const Invocation& invocation) {
  Console& console = invocation.console;
  SignOptions values;
  Options options("sign", "Signs a file so that others can verify who it comes from. Writes FILE.minisig.",
                  "sluice sign my-model.manifest.json --key alice.key --comment \"first release\"");
  options.add_argument("FILE", values.file, "A manifest, or any other file");
  options.add_text("--key FILE", values.key, "Secret key from sluice keygen or minisign (required)");
  options.add_text("--comment TEXT", values.comment,
                   "Signed comment, shown when the signature is verified (default: time and file name)");
  options.add_flag("--password-stdin", values.password_stdin,
                   "Read the key's password from the first line of stdin");
  options.add_flag("--overwrite", values.overwrite,
                   "Replace FILE.minisig when it was made with another key, or is no signature");
  options.parse(invocation);

  if (values.key.empty()) throw base::Error(base::ErrorKind::usage, "--key is required (sluice sign --help)");
  // A bad comment is refused before the password is asked for and the file is hashed.
  check_comment(values.comment);
  // Looked at before the password is asked for, and once more when it is known which key it is.
  const fs::path path = library::signature_path(values.file);
  require_output(path, values, nullptr);
  const base::SecretKey key = open_secret_key(values, console);
  require_output(path, values, &key);
  const auto signature = base::sign(hash_file(values.file, invocation.stop), key,
                                    values.comment.empty() ? default_comment(values.file) : values.comment);
  base::write_file(path, base::as_bytes(to_text(signature)));
  console.event(format::Json::object({{"event", "result"},
                                      {"signature", path.string()},
                                      {"key_id", base::to_string(key.id)},
                                      {"comment", signature.trusted_comment}}));
  console.print(path.string() + ": signed by key " + base::to_string(key.id));
  return 0;
}

}  // namespace sluice::cli
