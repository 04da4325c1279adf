// Downloads a .torrent from a web server. The user named the URL, so it is trusted; redirects are not.

#include <span>
#include <string>

#include "base/error.h"
#include "fetch/fetch.h"
#include "fetch/net/address.h"
#include "fetch/net/http_client.h"
#include "fetch/torrent/torrent_file.h"

namespace sluice::fetch {
namespace {

/// Why a response's body is not the file; empty when it is.
std::string problem_of(const HttpAnswer& answer) {
  if (answer.outcome != HttpOutcome::answered) return answer.why;
  if (answer.head.status != 200) return "HTTP " + std::to_string(answer.head.status);
  if (answer.head.is_encoded()) return "the server sends it in an encoding that was not asked for";
  if (answer.stalled) return "the server stops answering";
  return answer.complete ? "" : "the answer breaks off";
}

}  // namespace

std::string download_torrent(const std::string& url, bool allow_private, const std::stop_token& stop) {
  if (const std::string problem = web_seed_problem(url); !problem.empty())
    throw base::Error(base::ErrorKind::usage, "'" + url + "' " + problem);
  std::string content;
  bool too_long = false;
  const auto take = [&](const HttpHead& head, std::span<const char> bytes) {
    if (head.status != 200) return false;
    too_long = bytes.size() > kTorrentBytesMax - content.size();
    if (too_long) return false;
    content.append(bytes.data(), bytes.size());
    return true;
  };
  HttpClient client({.allow_private = allow_private, .trusted = true}, stop);
  const HttpAnswer answer = client.get(url, "", take);
  if (answer.outcome == HttpOutcome::stopped) throw base::Error(base::ErrorKind::interrupted, "interrupted");
  if (too_long) base::throw_malformed(url, "has more than " + std::to_string(kTorrentBytesMax) + " bytes");
  if (const std::string problem = problem_of(answer); !problem.empty())
    throw base::Error(base::ErrorKind::network, url + ": cannot be had: " + problem);
  return content;
}

}  // namespace sluice::fetch
