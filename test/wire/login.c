/*
 * login.c: what a client says until it is let in.
 *
 * It answers: what is the answer to this request for authentication? It owns nothing but a login's secrets, in Login. It never sends, and ends the program where
 * the other side cannot prove that it knows the password, too.
 */
#include "login.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
put_startup(Buffer *out, int major, int minor, const Buffer *parameters)
{
	put32(out, (long) parameters->len + 9);
	put32(out, major << 16 | minor);
	put(out, parameters->data, parameters->len);
	put(out, "", 1);
}

/* ---- PasswordMessage, SASLInitialResponse, SASLResponse: all 'p' ---- */

static void
put_password(Buffer *out, const char *text)
{
	Buffer		body = {0};

	put_string(&body, text);
	put_message(out, 'p', &body);
	free(body.data);
}

static void
hex_md5(const Buffer *text, char *hex)
{
	unsigned char digest[16];

	if (!EVP_Digest(text->data, text->len, digest, NULL, EVP_md5(), NULL))
		fail("md5 is not available");
	for (int i = 0; i < 16; i++)
		sprintf(hex + i * 2, "%02x", digest[i]);
}

static void
answer_md5(const Target *t, const char *salt, Buffer *out)
{
	Buffer		b = {0};
	char		answer[36] = "md5";

	put_text(&b, "%s%s", t->password, t->user);
	hex_md5(&b, answer + 3);
	clear(&b);
	put(&b, answer + 3, 32);
	put(&b, salt, 4);
	hex_md5(&b, answer + 3);
	put_password(out, answer);
	free(b.data);
}

static void
hmac(const void *key, const char *text, unsigned char *out)
{
	unsigned	out_len = 32;

	if (HMAC(EVP_sha256(), key, 32, (const unsigned char *) text, strlen(text), out, &out_len) == NULL)
		fail("HMAC failed");
}

static void
scram_first(Login *l, Buffer *out)
{
	unsigned char random[18];
	char		nonce[25];
	Buffer		body = {0};

	RAND_bytes(random, sizeof(random));
	EVP_EncodeBlock((unsigned char *) nonce, random, sizeof(random));
	snprintf(l->first_bare, sizeof(l->first_bare), "n=,r=%s", nonce);
	put_string(&body, "SCRAM-SHA-256");
	put32(&body, (long) strlen(l->first_bare) + 3);
	put_text(&body, "n,,%s", l->first_bare);
	put_message(out, 'p', &body);
	free(body.data);
}

static void
scram_salt(Login *l, const char *password, const char *base64, int iterations)
{
	unsigned char salt[512];
	size_t		len = strlen(base64);
	int			n;

	if (len > sizeof(salt) || len < 4 || iterations < 1)
		fail("SCRAM salt or iterations make no sense");
	n = EVP_DecodeBlock(salt, (const unsigned char *) base64, (int) len);
	while (n > 0 && base64[--len] == '=')
		n--;
	if (!PKCS5_PBKDF2_HMAC(password, (int) strlen(password), salt, n, iterations, EVP_sha256(), 32, l->salted))
		fail("PBKDF2 failed");
}

/* server-first: r=nonce,s=salt,i=iterations; answered with the proof. */
static void
scram_final(Login *l, const char *password, const char *server_first, Buffer *out)
{
	unsigned char client_key[32], stored_key[32], signature[32];
	char		nonce[256], salt[512], iterations[12], proof[64], without_proof[300];
	Buffer		body = {0};

	if (sscanf(server_first, "r=%255[^,],s=%511[^,],i=%11[0-9]", nonce, salt, iterations) != 3)
		fail("SCRAM challenge not understood");
	scram_salt(l, password, salt, (int) strtol(iterations, NULL, 10));
	snprintf(without_proof, sizeof(without_proof), "c=biws,r=%s", nonce);
	snprintf(l->auth_message, sizeof(l->auth_message), "%s,%s,%s", l->first_bare, server_first, without_proof);
	hmac(l->salted, "Client Key", client_key);
	EVP_Digest(client_key, 32, stored_key, NULL, EVP_sha256(), NULL);
	hmac(stored_key, l->auth_message, signature);
	for (int i = 0; i < 32; i++)
		client_key[i] ^= signature[i];
	EVP_EncodeBlock((unsigned char *) proof, client_key, 32);
	put_text(&body, "%s,p=%s", without_proof, proof);
	put_message(out, 'p', &body);
	free(body.data);
}

static void
scram_verify(const Login *l, const char *server_final)
{
	unsigned char key[32], signature[32];
	char		expected[64] = "v=";

	hmac(l->salted, "Server Key", key);
	hmac(key, l->auth_message, signature);
	EVP_EncodeBlock((unsigned char *) expected + 2, signature, 32);
	if (strcmp(expected, server_final) != 0)
		fail("SCRAM: the signature of the other side is wrong");
}

bool
login_answer(Login *l, const Target *t, Cursor request, Buffer *out)
{
	char		text[1024] = {0};
	uint32_t	code = get_uint(&request, 4);

	if (request.bad || (size_t) (request.end - request.p) >= sizeof(text))
		fail("an authentication request that is too short or too long");
	memcpy(text, request.p, request.end - request.p);
	switch (code)
	{
		case 0: return true;
		case 3: put_password(out, t->password); break;
		case 5: answer_md5(t, text, out); break;
		case 10: scram_first(l, out); break;
		case 11: scram_final(l, t->password, text, out); break;
		case 12: scram_verify(l, text); break;
		default: fail("authentication method %u is not known", code);
	}
	return false;
}

/* ---- cancelling ---- */

void
get_cancel_key(CancelKey *k, Cursor body)
{
	k->pid = get_uint(&body, 4);
	k->len = body.bad ? 0 : (size_t) (body.end - body.p);
	if (k->len > sizeof(k->key))
		k->len = sizeof(k->key);
	memcpy(k->key, body.p, k->len);
}

void
put_cancel(Buffer *out, const CancelKey *k)
{
	put32(out, 12 + (long) k->len);
	put32(out, 80877102);
	put32(out, k->pid);
	put(out, k->key, k->len);
}
