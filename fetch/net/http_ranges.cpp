// Fetches a range of a file by HTTP (RFC 9110, section 14). It checks the head of each response before a byte
// of its body is used: status, encoding, Content-Range and length must fit the request, because a server that
// ignores a range would otherwise deliver the wrong bytes of the right file. The pieces' hashes would find
// that out, but only after the traffic, and they would not say why.

#include "fetch/net/http_ranges.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "base/ascii.h"

namespace sluice::fetch {
namespace {

/// Reading an unwanted body up to this size is cheaper than a new connection.
constexpr std::uint64_t kUnwantedBytesMax = 64 << 10;

/// "bytes 0-99/1000", "bytes */1000", "bytes 0-99/*" (RFC 9110, 14.4).
struct ContentRange {
  std::optional<std::pair<std::uint64_t, std::uint64_t>> first_last;
  std::optional<std::uint64_t> total;
};

std::optional<ContentRange> parse_content_range(std::string_view text) {
  constexpr std::string_view kUnit = "bytes ";
  const std::size_t slash = text.find('/');
  if (!text.starts_with(kUnit) || slash == text.npos) return std::nullopt;
  const std::string_view range = text.substr(kUnit.size(), slash - kUnit.size());
  const std::string_view total = text.substr(slash + 1);
  ContentRange found;
  if (total != "*" && !(found.total = base::parse_uint(total))) return std::nullopt;
  if (range == "*") return found;
  const std::size_t dash = range.find('-');
  if (dash == range.npos) return std::nullopt;
  const auto first = base::parse_uint(range.substr(0, dash));
  const auto last = base::parse_uint(range.substr(dash + 1));
  if (!first || !last || *first > *last) return std::nullopt;
  found.first_last.emplace(*first, *last);
  return found;
}

RangeAnswer unusable_file(std::string why) {
  return {.outcome = RangeOutcome::file_unusable, .why = std::move(why)};
}

RangeAnswer unusable_server(std::string why) {
  return {.outcome = RangeOutcome::server_unusable, .why = std::move(why)};
}

RangeAnswer other_length(std::uint64_t found, std::uint64_t expected) {
  return unusable_file("it has " + std::to_string(found) + " bytes there, expected " +
                       std::to_string(expected));
}

RangeAnswer check_part(const HttpHead& head, const RangeRequest& request) {
  const auto range = parse_content_range(head.content_range);
  if (!range || !range->first_last) return unusable_file("the answer does not say which part it is");
  // Another total means another file: a later version of the release, or a page with an error message.
  if (range->total && *range->total != request.file_bytes)
    return other_length(*range->total, request.file_bytes);
  if (*range->first_last != std::pair(request.offset_bytes, request.offset_bytes + request.length_bytes - 1))
    return unusable_file("the answer is another part than was asked for");
  return {.outcome = RangeOutcome::complete};
}

RangeAnswer check_whole(const HttpHead& head, const RangeRequest& request) {
  // A status of 200 means that the server ignores ranges. The start of the file then serves a range that
  // begins there.
  if (head.content_length && *head.content_length != request.file_bytes)
    return other_length(*head.content_length, request.file_bytes);
  if (request.offset_bytes != 0)
    return {.outcome = RangeOutcome::whole_only, .why = "the server does not send parts of it"};
  return {.outcome = RangeOutcome::complete};
}

/// Returns complete when the body is the requested range, provided that its length is right.
RangeAnswer check_head(const HttpHead& head, const RangeRequest& request, bool redirected) {
  if ((head.status == 200 || head.status == 206) && head.is_encoded())
    return unusable_file("the server sends it in an encoding that was not asked for");
  const std::string why = "HTTP " + std::to_string(head.status);
  switch (head.status) {
    case 200: return check_whole(head, request);
    case 206: return check_part(head, request);
    // Absent: another URL of the same server may have the file.
    case 404:
    case 410: return {.outcome = RangeOutcome::file_unusable, .why = why, .absent = true};
    // A redirect to a signed URL that has expired meanwhile; the next request gets a new one.
    case 401:
    case 403:
      if (!redirected) break;
      return {.outcome = RangeOutcome::failed,
              .why = why + " behind a redirect",
              .refused = true,
              .retry_after = head.retry_after};
    // Timeout, Too Early, Too Many Requests: the server asks for a later attempt.
    case 408:
    case 425:
    case 429: return {.outcome = RangeOutcome::failed, .why = why, .retry_after = head.retry_after};
    // Range Not Satisfiable: the header says the length of the file, which explains why.
    case 416:
      if (const auto range = parse_content_range(head.content_range);
          range && range->total && *range->total != request.file_bytes)
        return other_length(*range->total, request.file_bytes);
      return unusable_file(why);
    default: break;
  }
  if (head.status >= 500)
    return {.outcome = RangeOutcome::failed, .why = why, .retry_after = head.retry_after};
  return unusable_file(why);
}

std::string cut_short(std::uint64_t received, std::uint64_t expected) {
  return "the answer ends after " + std::to_string(received) + " of " + std::to_string(expected) + " bytes";
}

/// The state of one response while its body arrives.
class Answer {
 public:
  Answer(const RangeRequest& request, const RangeSink& sink) : request_(request), sink_(sink) {}

  /// Returns false to end the transfer.
  bool take(const HttpHead& head, std::span<const char> bytes) {
    // Whether redirects led here matters only for heads whose body is not used.
    if (!usable_) usable_ = check_head(head, request_, false).outcome == RangeOutcome::complete;
    if (!*usable_) {
      unwanted_ += bytes.size();
      return unwanted_ <= kUnwantedBytesMax;
    }
    const auto wanted =
        static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), request_.length_bytes - received_));
    if (wanted > 0) sink_(received_, bytes.first(wanted));
    received_ += wanted;
    too_long_ = wanted < bytes.size();
    // The rest of a whole file is not wanted, and ending the transfer is the way to say so.
    return !too_long_ && !(is_start_of_whole(head) && received_ == request_.length_bytes);
  }

  RangeAnswer finish(const HttpAnswer& answer) {
    switch (answer.outcome) {
      case HttpOutcome::failed: return {.why = answer.why};
      case HttpOutcome::unusable: return unusable_server(answer.why);
      case HttpOutcome::stopped: return {.outcome = RangeOutcome::stopped, .received_bytes = received_};
      case HttpOutcome::answered: break;
    }
    RangeAnswer result = check_head(answer.head, request_, !answer.redirected_to.empty());
    result.received_bytes = received_;
    if (result.outcome != RangeOutcome::complete) return result;
    if (too_long_ && !is_start_of_whole(answer.head)) {
      result.outcome = RangeOutcome::failed;
      result.why = "the answer is longer than the " + std::to_string(request_.length_bytes) +
                   " bytes that were asked for";
    } else if (received_ < request_.length_bytes) {
      result.outcome = RangeOutcome::failed;
      result.why =
          answer.stalled ? "the server stops answering" : cut_short(received_, request_.length_bytes);
    }
    return result;
  }

 private:
  [[nodiscard]] bool is_start_of_whole(const HttpHead& head) const {
    return head.status == 200 && request_.length_bytes < request_.file_bytes;
  }

  const RangeRequest& request_;
  const RangeSink& sink_;
  std::optional<bool> usable_;
  std::uint64_t received_ = 0;
  std::uint64_t unwanted_ = 0;
  bool too_long_ = false;
};

}  // namespace

RangeAnswer HttpRanges::get(const RangeRequest& request, const RangeSink& sink) {
  constexpr std::size_t kRedirectsMax = 256;
  const std::string range = std::to_string(request.offset_bytes) + "-" +
                            std::to_string(request.offset_bytes + request.length_bytes - 1);
  if (const auto known = redirects_.find(request.url); known != redirects_.end()) {
    Answer answer(request, sink);
    const RangeAnswer result = answer.finish(client_.get_redirected(
        known->second, range,
        [&](const HttpHead& head, std::span<const char> bytes) { return answer.take(head, bytes); }));
    // Once bytes have gone to the sink, a second answer would repeat them.
    if (result.outcome == RangeOutcome::complete || result.outcome == RangeOutcome::stopped ||
        result.received_bytes > 0)
      return result;
    redirects_.erase(known);
  }
  Answer answer(request, sink);
  const HttpAnswer answered = client_.get(
      request.url, range,
      [&](const HttpHead& head, std::span<const char> bytes) { return answer.take(head, bytes); });
  RangeAnswer result = answer.finish(answered);
  if (result.outcome == RangeOutcome::complete && !answered.redirected_to.empty()) {
    if (redirects_.size() >= kRedirectsMax) redirects_.clear();
    redirects_[request.url] = answered.redirected_to;
  }
  return result;
}

}  // namespace sluice::fetch
