// keygen: makes a key pair in minisign's format. A secret key is encrypted unless the user says otherwise,
// and neither file is ever overwritten.

#include "base/error.h"
#include "base/file.h"
#include "base/output.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/terminal.h"
#include "library/library.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDefaultName = "sluice";
constexpr mode_t kOwnerOnly = 0600;

struct KeygenOptions {
  std::string name = kDefaultName;
  bool no_password = false;
  bool password_stdin = false;
};

Password new_password(const KeygenOptions& values, Console& console) {
  if (values.no_password) return Password();
  if (values.password_stdin) {
    Password password = read_password();
    if (password.text().empty())
      throw base::Error(base::ErrorKind::usage, "--password-stdin: the password is empty");
    return password;
  }
  if (!can_ask(console)) {
    throw base::Error(base::ErrorKind::usage,
                      "there is no terminal to ask for a password: --password-stdin, or --no-password for a "
                      "key that whoever has the file can use");
  }
  Password password = ask_password(console, "Password of the new key: ");
  if (password.text().empty())
    throw base::Error(base::ErrorKind::usage, "the password is empty; --no-password makes a key without one");
  if (ask_password(console, "The password again: ").text() != password.text())
    throw base::Error(base::ErrorKind::usage, "the two passwords differ");
  return password;
}

// A secret key that is overwritten is lost, and with it every signature that should still be made by it.
void require_absent(const fs::path& path) {
  std::error_code absent;
  // symlink_status() also sees a link that leads nowhere; without it such a name would pass for a free one.
  if (fs::exists(fs::symlink_status(path, absent)))
    throw base::Error(base::ErrorKind::usage, path.string() + ": is there already, and is not overwritten");
}

}  // namespace

int keygen_command(const Invocation& invocation) {
  Console& console = invocation.console;
  KeygenOptions values;
  Options options("keygen", "Makes a key pair for signing manifests, in minisign's file format.",
                  "sluice keygen -o alice");
  options.add_text("-o,--output NAME", values.name,
                   "Write NAME.key and NAME.pub; a folder gets sluice.key and sluice.pub");
  options.add_flag("--no-password", values.no_password, "Do not encrypt the secret key");
  options.add_flag("--password-stdin", values.password_stdin,
                   "Read the password from the first line of stdin");
  options.exclude("--password-stdin", "--no-password");
  options.parse(invocation);

  const std::string name = base::output_path(values.name, kDefaultName).string();
  const fs::path secret_path = name + ".key";
  const fs::path public_path = name + ".pub";
  // The names are checked before the password is asked for. write_new_file() refuses as well, should a file
  // appear meanwhile.
  require_absent(secret_path);
  require_absent(public_path);
  base::require_output_folder(secret_path);
  const Password password = new_password(values, console);
  const base::SecretKey key = base::new_secret_key();
  if (!values.no_password) console.begin_step("Deriving a key from the password");
  const Password secret_text(to_text(key, password.text()));
  if (!values.no_password) console.end_step();
  // The secret key comes first: a public key without its secret key would be of no use.
  base::write_new_file(secret_path, base::as_bytes(secret_text.text()), kOwnerOnly);
  base::write_new_file(public_path, base::as_bytes(to_text(key.public_key())));

  console.event(format::Json::object({{"event", "result"},
                                      {"secret_key", secret_path.string()},
                                      {"public_key", public_path.string()},
                                      {"key_id", base::to_string(key.id)},
                                      {"key", to_line(key.public_key())}}));
  console.print("secret key   " + secret_path.string() + "  (keep it to yourself)");
  console.print("public key   " + public_path.string() + "  (publish it where people know you)");
  for (const std::string& line : library::describe_key(key.public_key())) console.print(line);
  return 0;
}

}  // namespace sluice::cli
