// A real OpenID provider for tests: npm's oidc-provider, with its own sign-in pages. Arguments: port, seconds of a token,
// and where a browser is sent back to that logs in by itself.
import { Provider } from 'oidc-provider'

const [port, seconds] = process.argv.slice(2, 4).map(Number)
const redirects = process.argv.slice(4)
const issuer = `http://127.0.0.1:${port}`
const provider = new Provider(issuer, {
  clients: [{
    client_id: 'awe',
    token_endpoint_auth_method: 'none',
    grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token', ...redirects.map(() => 'authorization_code')],
    response_types: redirects.map(() => 'code'),
    redirect_uris: redirects,
    scope: 'openid profile offline_access',
  }],
  features: { deviceFlow: { enabled: true }, revocation: { enabled: true } },
  claims: { profile: ['preferred_username', 'groups', 'dpu_roles'] },
  // Claims in the identity token itself, as most providers have it.
  conformIdTokenClaims: false,
  issueRefreshToken: async () => true,
  ttl: { IdToken: seconds, AccessToken: 3600, DeviceCode: 60, RefreshToken: 3600, Session: 3600, Grant: 3600, Interaction: 600 },
  findAccount: async (_context, id) => ({
    accountId: id,
    claims: async () => ({
      sub: id,
      preferred_username: id,
      groups: id === 'anna' ? ['KIDS', '*'] : [],
      dpu_roles: id === 'olga' ? ['operator', 'worker'] : ['user'],
    }),
  }),
})
provider.listen(port, '127.0.0.1', () => console.log('ready'))
